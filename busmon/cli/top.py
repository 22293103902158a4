"""`busmon top`: the fleet's rates, latency, shards and workers, as its exporter tells them."""

import argparse

from busmon.cli.options import add_settings, settings_from

EXAMPLES = """\
examples:
  busmon top                            watch the exporter at the address of the settings
  busmon top --listen 10.0.0.7:9797     watch another
  busmon top --once | head              one frame, without a terminal
"""


def add(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "top",
        help="watch the fleet in this terminal",
        description="Show the fleet's rates, latency, shards and workers, once a second. q or Ctrl-C leaves.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--once", action="store_true", help="print one frame and leave; so too without a terminal")
    add_settings(parser, "listen")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Watch until the user leaves.

    Raises:
        ExporterUnreachableError: no exporter answers, with --once.
    """
    from rich.console import Console

    from busmon.exporter import screen
    from busmon.exporter.watch import Client, watch

    client, console = Client(settings_from(args).listen), Console()
    if args.once or not console.is_terminal:
        console.print(screen.frame(client.overview()))
        return 0
    try:
        watch(client, console)
    except KeyboardInterrupt:
        return 0
    return 0
