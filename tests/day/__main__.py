"""`python -m tests.day`: days of churn, and the last day's figures against the day before."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

import structlog
from rich.console import Console
from rich.table import Table

from busmon import garbage
from tests.day.churn import Churn
from tests.day.day import Pace, judge, simulate

SOURCES, VALUES, DAYS = 100_000, 20_000, 6
PACE = Pace(10.0, 1 << 20)
NOISE = {"private KiB": 2048.0, "other files, bytes": 65_536.0}


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.day", description=__doc__)
    parser.add_argument("--sources", type=int, default=SOURCES, help="that begin in a day (default %(default)s)")
    parser.add_argument("--values", type=int, default=VALUES, help="of a label, as well (default %(default)s)")
    parser.add_argument("--days", type=int, default=DAYS, help="(default %(default)s)")
    parser.add_argument("--beat-seconds", type=float, default=PACE.beat_seconds, help="(default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default %(default)s)")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    garbage.tune_for_deliveries()
    directory = Path(tempfile.mkdtemp(prefix="day-"))
    began = time.monotonic()
    try:
        simulation, shown = simulate(
            directory,
            Churn(given.sources, given.values, given.days, given.seed),
            PACE._replace(beat_seconds=given.beat_seconds),
        )
    finally:
        shutil.rmtree(directory)
    verdicts = [*judge(simulation.notes, given.days, NOISE)]
    drawn = Table("median of", "day before", "last day", "", box=None)
    for verdict in verdicts:
        state = "flat" if verdict.is_flat else "NOT FLAT"
        drawn.add_row(verdict.figure, f"{verdict.plateau:,.0f}", f"{verdict.last:,.0f}", state)
    Console(width=100).print(drawn)
    sys.stdout.write(
        f"{given.days} days of {given.sources:,} sources and {given.values:,} values each, in "
        f"{(time.monotonic() - began) / 60:.1f} min: {simulation.published:,} tasks published, {shown:,.0f} counted, "
        f"{len(simulation.refused)} bodies refused\n"
    )
    is_exact = shown == simulation.published and not simulation.refused
    return 0 if is_exact and all(verdict.is_flat for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
