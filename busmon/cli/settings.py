"""`busmon settings`: every setting, its value and where it came from, secrets masked."""

import argparse
import json

from busmon.cli.commands import Commands, add_command
from busmon.cli.options import add_settings, settings_from
from busmon.settings import CONFIG_VARIABLE, SCHEMA, Setting, Settings

EXAMPLES = """\
examples:
  busmon settings                            the settings that a command would use here
  BUSMON_CONFIG=/etc/busmon.toml busmon settings
  busmon settings --workers 4                the same, with a flag
  busmon settings --json                     for a program
"""

PAGE = f"""\
# Settings

<!-- Written by `busmon settings --markdown > docs/settings.md`; a test keeps it in step. -->

A setting's value comes from the first of these:

1. its flag, on commands that use the setting;
2. its environment variable; an empty variable counts as unset;
3. the TOML file that `{CONFIG_VARIABLE}` names, or `busmon.toml` in the working directory;
4. its default.

`busmon settings` shows each value and its origin, with passwords masked.

In the file a setting has its name as the key, and a value of its own type or the text of a variable:

```toml
amqp_url = "amqps://fleet:secret@rabbit.example/%2F"
workers = 4
catalogue = ["/etc/busmon/search.toml", "/etc/busmon/billing.toml"]
```

`amqp_url` and `management_url` may list the nodes of a cluster; in a variable a comma stands between the URLs.

A file can provide each setting that may hold a password, as container platforms mount them. `BUSMON_AMQP_URL_FILE`
names a file with the value of `amqp_url`, and so on.

An invalid value is one line that names the setting, the origin and the accepted values, and exit status 2. An unknown
name in the file is invalid too. A variable whose name resembles a setting's isn't used; commands warn of it on stderr.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "settings",
        "show every setting, its value and its origin",
        EXAMPLES,
        description="Show every setting, its value and its origin, with passwords masked.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", dest="form", action="store_const", const="json", help="print JSON")
    form.add_argument(
        "--markdown", dest="form", action="store_const", const="markdown", help="print the reference page"
    )
    add_settings(parser, *(setting.name for setting in SCHEMA))
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the settings in the form that was asked for."""
    if args.form == "markdown":
        print(page(), end="")
        return 0
    settings = settings_from(args)
    print(as_json(settings) if args.form == "json" else table(settings))
    return 0


def table(settings: Settings) -> str:
    """Format a line for each setting: its name, value and origin."""
    rows = [(row.name, _value(settings, row), settings.origin(row.name)) for row in SCHEMA]
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:<{name_width}}  {value:<{value_width}}  {origin}" for name, value, origin in rows)


def _value(settings: Settings, row: Setting) -> str:
    return row.show(getattr(settings, row.name)) or row.kind.empty or row.default_text


def as_json(settings: Settings) -> str:
    """Return the same and each setting's names, for a program; a value is text, as in an environment variable."""
    return json.dumps(
        [
            {
                "name": row.name,
                "value": row.show(getattr(settings, row.name)),
                "origin": settings.origin(row.name),
                "default": row.default_text,
                "variable": row.variable,
                "flag": row.flag,
                "accepts": row.kind.accepts,
                "help": row.help,
            }
            for row in SCHEMA
        ],
        indent=2,
    )


def page() -> str:
    """Write the reference page of all settings, in Markdown."""
    rows = [
        f"| `{row.name}` | `{row.variable}` | {row.help} | {_cell(row.kind.accepts)} | {_cell(row.default_text)} |"
        for row in SCHEMA
    ]
    head = ["| name | variable | meaning | accepts | default |", "|---|---|---|---|---|"]
    return PAGE + "\n" + "\n".join(head + rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
