"""`busmon demo`: a broker, a fleet, simulated agents and one live screen, with nothing to set up and nothing left."""

import argparse

from busmon.cli.commands import Commands, add_command, need_extra
from busmon.cli.numbers import between
from busmon.cli.options import add_settings, settings_from

EXAMPLES = """\
examples:
  busmon demo                                a private RabbitMQ node, from the installed rabbitmq-server
  BUSMON_AMQP_URL=amqp://user:password@rabbit.example/%2F busmon demo
                                             this broker; the demo's exchanges and queues are deleted at its end
  busmon demo --seconds 20                   publish for 20 seconds, drain, and compare published with scraped totals

With --seconds, exit status 1: a total differs. Ctrl-C ends the demo with everything that it started.
"""

DAY_SECONDS = 86_400


def add(commands: Commands) -> None:
    """Add `demo`."""
    demo = add_command(
        commands,
        "demo",
        "show a whole fleet at work, on a private broker",
        EXAMPLES,
        description="Run a private RabbitMQ node, a fleet and 12 simulated agents, and show them on one live screen.",
    )
    demo.add_argument(
        "--seconds",
        metavar="S",
        type=between(1, DAY_SECONDS),
        help="publish for S seconds, then audit the totals and leave (default: show the screen until Ctrl-C)",
    )
    add_settings(demo, "amqp_url", "exchange", "workers", "listen", "catalogue")
    need_extra(demo, "fleet")
    demo.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Play the demo."""
    from busmon.demo import demo

    return demo.run(settings_from(args), args.seconds)
