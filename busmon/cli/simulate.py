"""`busmon simulate`: an agent platform to try the fleet with, and an account of what it published."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from busmon.cli.commands import Commands, add_command
from busmon.cli.numbers import whole
from busmon.cli.options import add_settings, settings_from
from busmon.plurals import format_count
from busmon.simulator.weather import INCIDENTS

if TYPE_CHECKING:
    from busmon.simulator.simulation import Progress
    from busmon.simulator.totals import Totals

EXAMPLES = """\
examples:
  busmon simulate                            6 agents, 20 steps a second each, until Ctrl-C
  busmon simulate --agents 30 --rate 200 --seconds 60
  busmon simulate --seconds 10 --seed 7 --totals published.json
                                             the totals that a scrape must show, by series
  busmon simulate --incident high-error-rate --after 120
                                             every fifth task fails after two minutes

A step is a task or a pause: the busiest role has a task in nine of ten steps, the idlest in one of six. A task is about
25 instrument calls. Each agent publishes one envelope for each of 6 domains every BUSMON_PUBLISH_INTERVAL_SECONDS, at
any rate. A day begins at its peak and falls to 0.4 times the work. The same agents, rate, seed, incident and number of
steps give the same totals. Exit status 1: some samples were not confirmed.
"""

_LINE_SECONDS = 0.2
_MAX_SECONDS = 1e9
_CLEAR_LINE = "\r\x1b[K"


def add(commands: Commands) -> None:
    """Add `simulate`."""
    simulate = add_command(
        commands,
        "simulate",
        "publish as a simulated platform of agents",
        EXAMPLES,
        description="Run a simulated agent platform that publishes every family of the built-in catalogue.",
    )
    number = simulate.add_argument
    number("--agents", metavar="N", type=whole(1, 1000), default=6, help="number of agents (default: 6)")
    number("--rate", metavar="R", type=_positive, default=20.0, help="steps a second of each agent (default: 20)")
    number(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=0.0,
        help="R times S steps of each agent; 0: until Ctrl-C (default)",
    )
    number("--seed", metavar="K", type=whole(0, 2**63), default=1, help="seed of the random events (default: 1)")
    number("--totals", metavar="FILE", type=Path, help="write the confirmed totals as JSON")
    _add_weather(simulate)
    simulate.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    add_settings(simulate, "amqp_url", "exchange", "publish_interval_seconds", "catalogue")
    simulate.set_defaults(run=run)


def _add_weather(simulate: argparse.ArgumentParser) -> None:
    what = simulate.add_argument
    what("--incident", metavar="NAME", choices=INCIDENTS, default="", help=f"one of {', '.join(INCIDENTS)}")
    what("--after", metavar="S", type=_seconds, default=60.0, help="seconds until the incident begins (default: 60)")
    what(
        "--lasting",
        metavar="S",
        type=_seconds,
        default=0.0,
        help="duration of the incident in seconds; 0: until the end (default)",
    )
    what("--strength", metavar="X", type=_positive, default=1.0, help="strength of the incident (default: 1)")
    what("--day", metavar="S", type=_positive, default=86_400.0, help="length of a day in seconds (default: 86400)")
    what(
        "--deploys", metavar="S", type=_seconds, default=900.0, help="seconds between an agent's deploys (default: 900)"
    )


def run(args: argparse.Namespace) -> int:
    """Simulate, and print what was published; 1 where not all of it was confirmed."""
    from busmon.fleet.supervisor import parent
    from busmon.simulator.simulation import Plan
    from busmon.simulator.simulation import run as simulate
    from busmon.simulator.weather import Weather

    # As Ctrl-C does, `kill` ends the agents' lives in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.supervised:
        parent.watch()
    show = _live_line(args) if sys.stderr.isatty() else lambda _: None
    weather = Weather(args.incident, args.after, args.lasting, args.strength, args.day, args.deploys)
    plan = Plan(args.agents, args.rate, args.seconds, args.seed, weather)
    totals = simulate(settings_from(args), plan, args.totals, show)
    if sys.stderr.isatty():
        print(_CLEAR_LINE, end="", file=sys.stderr)
    print(table(totals))
    if not totals.is_confirmed:
        print(
            "busmon: some samples were not confirmed: the broker was unreachable or refused them at the end",
            file=sys.stderr,
        )
        return 1
    return 0


def table(totals: "Totals") -> str:
    """Format the published totals, a line for each sample name."""
    by_name = totals.totals()
    width = max(map(len, by_name), default=0)
    lines = [f"{name:<{width}}  {_figure(total):>18}" for name, total in by_name.items()]
    return "\n".join([*lines, f"confirmed: samples {totals.samples:,}, envelopes {totals.envelopes:,}"])


def _figure(total: float) -> str:
    return f"{total:,.0f}" if float(total).is_integer() else f"{total:,.3f}"


def _live_line(args: argparse.Namespace) -> Callable[["Progress"], None]:
    began = time.monotonic()
    printed_at = 0.0

    def show(progress: "Progress") -> None:
        nonlocal printed_at
        now = time.monotonic()
        if now - printed_at < _LINE_SECONDS:
            return
        printed_at = now
        seconds = f"{now - began:.0f} s" + (f" of {args.seconds:.0f}" if args.seconds else ", Ctrl-C ends it")
        said = (
            f"{format_count(args.agents, 'agent')}, {format_count(progress.steps * args.agents, 'step')}; confirmed: "
        )
        said += (
            f"{format_count(progress.samples, 'sample')} in {format_count(progress.envelopes, 'envelope')}; {seconds}"
        )
        print(f"{_CLEAR_LINE}{said}", end="", file=sys.stderr, flush=True)

    return show


def _positive(text: str) -> float:
    value = _seconds(text)
    if not value:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a positive number")
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} isn't a number from 0")
    return value
