"""`python -m tests.soak`: run it, show what happened, and keep the directory of a run that failed."""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.soak.processes import ROOT
from tests.soak.soak import Outcome, run


def main() -> int:
    """Parse the arguments and run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="which faults, when; by default random"
    )
    parser.add_argument("--kills", type=int, default=200, help="how many processes are killed (default %(default)s)")
    parser.add_argument("--hosts", type=int, default=1, help="of a replicated fleet, if several (default %(default)s)")
    parser.add_argument("--seconds", type=float, help="over how long (default: 300 for each host)")
    parser.add_argument(
        "--directory", type=Path, help="an empty directory for the run (default: a fresh one in .state)"
    )
    given = parser.parse_args()
    directory = given.directory or fresh_directory()
    arguments = f"--hosts {given.hosts} --seed {given.seed} --kills {given.kills}"
    sys.stdout.write(f"soak with {arguments} in {directory}\n")
    sys.stdout.flush()
    began = time.monotonic()
    outcome = run(directory, given.seed, given.kills, given.seconds or 300.0 * given.hosts, hosts=given.hosts)
    Console(width=120).print(table(outcome, time.monotonic() - began))
    for complaint in outcome.complaints:
        sys.stdout.write(f"WRONG: {complaint}\n")
    if outcome.complaints:
        sys.stdout.write(f"failed with {arguments}; everything that was written is kept in {directory}\n")
        return 1
    equal = ", the replicas of all hosts equal" if given.hosts > 1 else ""
    sys.stdout.write(f"nothing lost, nothing counted twice, no scrape out of step{equal}, no process left\n")
    shutil.rmtree(directory)
    return 0


def fresh_directory() -> Path:
    """A directory of this run's own, on a disk that keeps it."""
    state = ROOT / ".state"
    state.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="soak-", dir=state))


def table(outcome: Outcome, seconds: float) -> Table:
    """Word the faults, and their effects."""
    drawn = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    drawn.add_column(no_wrap=True)
    drawn.add_column(justify="right")
    for fault, count in sorted(outcome.faults.items(), key=lambda done: -done[1]):
        drawn.add_row(fault.value, f"{count:,}")
    drawn.add_section()
    for what, figure in outcome.figures.items():
        drawn.add_row(what, f"{figure:,}")
    drawn.add_row("seconds", f"{seconds:,.0f}")
    return drawn


if __name__ == "__main__":
    sys.exit(main())
