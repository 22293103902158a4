"""The `busmon` command: every subcommand in one parser, and what a user sees when one fails.

A command module offers `add(commands)`, which adds its subparsers and sets `run` on them, and imports what is heavy
inside that `run`: `busmon --help` loads neither pika nor an HTTP stack. An error on purpose is one line on stderr and
its exit status; a bug keeps its traceback.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from busmon import __version__, compiled
from busmon.cli import (
    catalogue,
    dashboards,
    demo,
    fleet,
    publish,
    quarantine,
    registry,
    rules,
    schema,
    settings,
    simulate,
    tail,
    top,
    topology,
)
from busmon.cli.commands import Commands, Parser
from busmon.cli.options import settings_from
from busmon.errors import BusError, BusmonError
from busmon.extras import require
from busmon.printable import escape
from busmon.settings import misspelt

GROUPS: tuple[tuple[str, tuple[ModuleType, ...]], ...] = (
    ("run the fleet", (fleet, top)),
    ("publish, watch samples, and replay quarantined bodies", (publish, tail, quarantine)),
    ("topology, metrics, rules and settings", (topology, catalogue, registry, rules, dashboards, schema, settings)),
    ("try it", (demo, simulate)),
)

EXAMPLES = """\
examples:
  busmon topology declare                    declare exchanges and queues on the broker
  busmon up --workers 4                      run four workers and the exporter
  busmon publish queue_size 42 -l queue=tasks
  curl http://127.0.0.1:9797/metrics

`busmon COMMAND --help` describes a command; `busmon settings` lists all settings.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; its exit status.

    Raises:
        SystemExit: the command line itself is wrong (status 2), or asks for help or the version (status 0).
    """
    args = parser().parse_args(argv)
    if not getattr(args, "supervised", False):
        _warn_of_misspelt_variables()
    try:
        if getattr(args, "extra", ""):
            require(args.extra, f"`{args.command}`")
        if getattr(args, "setting_flags", ()):
            compiled.obey(settings_from(args).pure_python)
        status: int = args.run(args)
        sys.stdout.flush()
    except BusmonError as error:
        print(escape(f"busmon: {error}{_of_which_broker(args, error)}"), file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader left, as `head` does. What is still buffered must not raise again when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return status


def _of_which_broker(args: argparse.Namespace, error: BusmonError) -> str:
    """Name the variable that nobody has set, where the default broker is the one that failed."""
    if not isinstance(error, BusError) or "amqp_url" not in getattr(args, "setting_flags", ()):
        return ""
    return settings_from(args).default_broker_hint()


def _warn_of_misspelt_variables() -> None:
    """Warn once for a fleet: its children have the same environment."""
    for name, meant in misspelt().items():
        print(f"busmon: {name} isn't a setting; did you mean {meant}?", file=sys.stderr)


class _Version(argparse.Action):
    """The flag that prints the version; only then are compiled modules searched for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"busmon {__version__} ({compiled.describe()})")
        parser.exit()


def parser() -> argparse.ArgumentParser:
    """Make the parser of the whole command line."""
    root = Parser(
        prog="busmon",
        usage="busmon [-h] [--version] COMMAND ...",
        description="Exact, crash-proof telemetry from RabbitMQ to Prometheus.",
    )
    root.add_argument("--version", action=_Version, nargs=0, help="print the version, and whether modules are compiled")
    commands = root.add_subparsers(prog="busmon", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    overview = [_group(commands, title, modules) for title, modules in GROUPS]
    root.epilog = "\n\n".join([*overview, EXAMPLES])
    return root


def _group(commands: Commands, title: str, modules: Sequence[ModuleType]) -> str:
    """Add the modules' commands; the lines that list them."""
    before = len(commands._choices_actions)  # noqa: SLF001 - argparse itself can't group subcommands in its help
    for module in modules:
        module.add(commands)
    added = commands._choices_actions[before:]  # noqa: SLF001 - as above
    return "\n".join([f"{title}:", *(f"  {command.dest:<12}{command.help}" for command in added)])
