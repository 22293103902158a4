"""`python -m tests.soak.long`: soak in slices that resume, until so many processes are killed; judge what is flat.

Each slice has a seed and is audited at its end. `.state/soak-long` holds the slices that were run, the samples and
the directories of each kind. A slice that was cut off is begun again from the end of the one before.
"""

import argparse
import json
import random
import shutil
import sys
import time
from collections import Counter
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.soak import samples
from tests.soak.kinds import KINDS, Done
from tests.soak.processes import ROOT
from tests.soak.soak import SAMPLES

KILLS = 10_000
SLICE_KILLS = 100
SLICE_SECONDS = 150.0
LEAST_SLICES = 3
"""Slices of a kind from which on its samples are judged: within a slice, a broker and the records still grow."""
STATE = ROOT / ".state" / "soak-long"
ROUND = [*chain.from_iterable(repeat(name, kind.turns) for name, kind in KINDS.items())]


def main() -> int:
    """Parse the arguments and run slices; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.long", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE, help="what stays between slices (default %(default)s)")
    parser.add_argument("--kills", type=int, default=KILLS, help="in all slices together (default %(default)s)")
    parser.add_argument("--slices", type=int, help="end after so many, whatever the kills")
    parser.add_argument("--slice-kills", type=int, default=SLICE_KILLS, help="of one slice (default %(default)s)")
    parser.add_argument("--slice-seconds", type=float, default=SLICE_SECONDS, help="(default %(default)s)")
    parser.add_argument("--kind", choices=KINDS, action="append", help="of slices; all by default")
    given = parser.parse_args()
    kinds = possible(given.kind or ROUND)
    before = len(read(given.state))
    while total_kills(given.state) < given.kills and len(read(given.state)) - before != given.slices:
        kind = kinds[len(read(given.state)) % len(kinds)]
        if complaints := run(given.state, kind, given.slice_kills, given.slice_seconds).complaints:
            sys.stdout.writelines(f"WRONG: {complaint}\n" for complaint in complaints)
            break
    return show(given.state)


def possible(kinds: list[str]) -> list[str]:
    """Leave out the kinds that can't be run here, and say why."""
    obstacles = {name: KINDS[name].obstacle() for name in dict.fromkeys(kinds)}
    sys.stdout.writelines(f"no slice of kind {name}: {why}\n" for name, why in obstacles.items() if why)
    return [name for name in kinds if not obstacles[name]]


def run(state: Path, kind: str, kills: int, seconds: float) -> Done:
    """Run one slice on what the last one of its kind left, and note it."""
    directory, kept = state / kind, state / f"{kind}-before"
    if kept.exists():  # the slice before was cut off
        shutil.rmtree(directory, ignore_errors=True)
        kept.rename(directory)
    directory.mkdir(parents=True, exist_ok=True)
    copy = kept.with_suffix(".new")
    shutil.rmtree(copy, ignore_errors=True)  # cut off while it was made
    shutil.copytree(directory, copy, ignore=shutil.ignore_patterns("lease"))
    copy.rename(kept)
    seed = random.randrange(1_000_000)
    sys.stdout.write(f"slice {len(read(state)) + 1}: {kind} --seed {seed}\n")
    sys.stdout.flush()
    began = time.monotonic()
    done = KINDS[kind].run(directory, seed, kills, seconds)
    note = {"kind": kind, "seed": seed, "at": time.time(), "seconds": time.monotonic() - began, "kills": done.kills}
    note |= {"faults": done.faults, "figures": done.figures, "complaints": done.complaints}
    if done.complaints:
        directory.rename(state / f"{kind}-failed-{seed}")
    else:
        shutil.rmtree(kept)
    with (state / "slices.jsonl").open("a") as log:
        log.write(json.dumps(note) + "\n")
    return done


def read(state: Path) -> list[dict[str, Any]]:
    """Return the slices that were run to their end."""
    path = state / "slices.jsonl"
    return [*map(json.loads, path.read_text().splitlines())] if path.exists() else []


def total_kills(state: Path) -> int:
    """Return the kills of all slices."""
    return sum(each["kills"] for each in read(state))


def show(state: Path) -> int:
    """Print the totals, and the figures that are flat or aren't; 1 if a promise is broken."""
    slices, console = read(state), Console(width=120)
    faults: Counter[str] = Counter()
    for each in slices:
        faults.update(each["faults"])
    drawn = Table("fault", "times", box=None)
    for fault, count in faults.most_common():
        drawn.add_row(fault, f"{count:,}")
    console.print(drawn)
    is_flat = True
    for kind in KINDS:
        if sum(each["kind"] == kind for each in slices) < LEAST_SLICES:
            continue
        judged = [*samples.judge(samples.read(state / kind / SAMPLES))]
        is_flat &= all(flat for *_, flat in judged)
        console.print(*([_judgement(kind, judged)] if judged else []))
    seeds = " ".join(f"{each['kind']}:{each['seed']}" for each in slices)
    failed = [complaint for each in slices for complaint in each["complaints"]]
    minutes = sum(each["seconds"] for each in slices) / 60
    console.print(
        f"{len(slices)} slices, {total_kills(state):,} kills, {sum(faults.values()):,} faults in {minutes:,.0f} min, "
        f"{len(failed)} complaints, {'flat' if is_flat else 'NOT FLAT'}; seeds: {seeds}"
    )
    return 1 if failed or not is_flat else 0


def _judgement(kind: str, judged: list[tuple[str, float, float, bool]]) -> Table:
    drawn = Table(f"{kind}: median of", "middle third", "last third", "", box=None)
    for name, middle, last, flat in judged:
        drawn.add_row(name, f"{middle:,.0f}", f"{last:,.0f}", "flat" if flat else "GROWS")
    return drawn


if __name__ == "__main__":
    sys.exit(main())
