"""The cost of many series to a worker: CPU time an envelope, and memory, with 1,000 to 200,000 of them in one shard.

    .venv/bin/python benchmarks/series.py [--series 1000,10000,200000] [--envelopes 20000] [--rounds 3]

For each number of series a worker first makes them all. Then one drains a backlog of envelopes of 5 samples, whose
series are picked at random; a fifth of them are histograms with 6 buckets. Memory is the worker's resident set at the
end. Printed are medians over the rounds, in which the numbers take turns.
"""

import argparse
import random
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import entry
from consume import Bench, bench
from drains import Figures

SAMPLES = 5
BASE_BYTES = 60e6
"""What a worker may have without any series, by the project's aim."""

UNBOUNDED = {"max_label_values": 1_000_000, "max_series_per_family": 1_000_000, "max_series": 1_000_000}


def pick(count: int, chosen: random.Random, _number: int) -> int:
    """Pick one of so many series."""
    return chosen.randrange(count)


def one_after_the_other(count: int, number: int) -> int:
    """Pick each of so many series in turn."""
    return number % count


def measure(side: Bench, count: int, envelopes: int, directory: str) -> Figures:
    """Drain a backlog in the registry directory, which has so many series by then."""
    kept: dict[str, Any] = {**UNBOUNDED, "registry_dir": Path(directory)}
    if not any(Path(directory).iterdir()):
        side.run("busmon", -(-count // SAMPLES), SAMPLES, "tables", partial(one_after_the_other, count), **kept)
    one = partial(pick, count, random.Random(7))  # noqa: S311 - no secret
    return side.run("busmon", envelopes, SAMPLES, "tables", one, **kept)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", default="1000,10000,200000")
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    counts = [int(count) for count in args.series.split(",")]
    figures: dict[int, list[Figures]] = {count: [] for count in counts}
    with bench() as side, tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as scratch:
        for count in counts:
            (Path(scratch) / str(count)).mkdir(mode=0o700)
        for _ in range(args.rounds):
            for count in counts:
                figures[count].append(measure(side, count, args.envelopes, f"{scratch}/{count}"))
    print(f"{'series':>10}{'CPU µs/env.':>14}{'÷ fewest':>10}{'memory MB':>12}{'KB a series above 60 MB':>26}")
    cpu = {count: statistics.median(each["cpu"] for each in runs) / args.envelopes for count, runs in figures.items()}
    for count, runs in figures.items():
        held = statistics.median(each["bytes"] for each in runs)
        row = f"{count:10,}{cpu[count] * 1e6:14.1f}{cpu[count] / cpu[counts[0]]:10.2f}{held / 1e6:12.1f}"
        print(f"{row}{max(0.0, held - BASE_BYTES) / count / 1e3:26.2f}")


if __name__ == "__main__":
    entry.run(main)
