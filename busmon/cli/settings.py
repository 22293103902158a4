"""`busmon settings`: every setting, its value and where it came from, secrets masked."""

import argparse
import json

from busmon.cli.commands import Commands, add_command
from busmon.cli.options import add_settings, settings_from
from busmon.settings import CONFIG_VARIABLE, SCHEMA, Setting, Settings

EXAMPLES = """\
examples:
  busmon settings                            what a command started here and now would use
  BUSMON_CONFIG=/etc/busmon.toml busmon settings
  busmon settings --workers 4                with a flag, too
  busmon settings --json                     for a program
"""

PAGE = f"""\
# Settings

<!-- Written by `busmon settings --markdown > docs/settings.md`; a test keeps it in step. -->

A setting's value comes from the first of: its flag, on the commands that use it; its environment variable; the TOML
file `busmon.toml` in the working directory, or the one that `{CONFIG_VARIABLE}` names; its default. An empty variable
counts as unset. `busmon settings` shows each value and where it came from, with passwords masked.

In the file a setting stands under its name, in its own type or as the text of a variable:

```toml
amqp_url = "amqps://fleet:secret@rabbit.example/%2F"
workers = 4
catalogue = ["/etc/busmon/search.toml", "/etc/busmon/billing.toml"]
```

Whatever holds a password can be read from a file of its own, as container platforms provide them: the variable
`BUSMON_AMQP_URL_FILE` names a file with the value of `amqp_url`, and so on.

A wrong value is one line that names the setting, where the value came from and what is accepted; the command then exits
with status 2. An unknown name in the file is refused, too; a variable whose name is nearly a setting's isn't used,
and a command says so on stderr.
"""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "settings",
        "show every setting, its value and where it came from",
        EXAMPLES,
        description="Show every setting, its value and where it came from; passwords are masked.",
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
    """A line a setting: its name, its value, where that came from."""
    rows = [(row.name, _value(settings, row), settings.origin(row.name)) for row in SCHEMA]
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{name:<{name_width}}  {value:<{value_width}}  {origin}" for name, value, origin in rows)


def _value(settings: Settings, row: Setting) -> str:
    return row.show(getattr(settings, row.name)) or row.kind.empty or row.default_text


def as_json(settings: Settings) -> str:
    """The same and each setting's names, for a program; a value is text, as in an environment variable."""
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
    """The reference page of all settings, in Markdown."""
    rows = [
        f"| `{row.name}` | `{row.variable}` | {row.help} | {_cell(row.kind.accepts)} | {_cell(row.default_text)} |"
        for row in SCHEMA
    ]
    head = ["| name | variable | meaning | accepts | default |", "|---|---|---|---|---|"]
    return PAGE + "\n" + "\n".join(head + rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
