"""`busmon top`: the fleet's rates, latency, shards and workers, as its exporter tells them."""

import argparse

from busmon.cli.commands import Commands, add_command, need_extra
from busmon.cli.options import add_settings, settings_from

EXAMPLES = """\
examples:
  busmon top                            watch the exporter of the settings
  busmon top --listen 10.0.0.7:9797     watch another
  busmon top --exporter-url 'https://me:secret@busmon.example:9797?cacertfile=/etc/busmon/ca.pem'
  busmon top --once | head              one frame, without a terminal
  busmon top --json | jq .rates         the figures, for a program
"""

ALL_LINES = 10_000
"""Without a terminal there is room for all that an overview holds."""


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "top",
        "watch the fleet in this terminal",
        EXAMPLES,
        description="Show the fleet's rates, latency, shards and workers, once a second. q or Ctrl-C exits.",
    )
    parser.add_argument("--once", action="store_true", help="print one frame and exit; the default without a terminal")
    parser.add_argument("--json", action="store_true", help="print the figures once as JSON, and exit")
    add_settings(parser, "listen", "exporter_url")
    need_extra(parser, "fleet")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Watch until the user leaves.

    Raises:
        ExporterUnreachableError: no exporter answers, with --once or --json.
    """
    import json

    from rich.console import Console

    from busmon.top import screen
    from busmon.top.client import Client
    from busmon.top.terminal import watch

    settings, console = settings_from(args), Console()
    client = Client(settings.listen, settings.exporter_url)
    if args.json:
        print(json.dumps(client.overview().as_json(), indent=2))
        return 0
    if args.once or not console.is_terminal:
        console.print(screen.frame(client.overview(), lines=console.height if console.is_terminal else ALL_LINES))
        return 0
    try:
        watch(client, console)
    except KeyboardInterrupt:
        return 0
    return 0
