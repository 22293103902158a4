"""The effect of prefetch and batch size: one worker drains the same backlog with each pair of them.

    .venv/bin/python benchmarks/batches.py [--envelopes 20000] [--rounds 3]

Printed are medians over the rounds. No batch is larger than the prefetch, or older than 0.25 s.
"""

import argparse
import statistics

import entry
from consume import bench

PAIRS = [(100, 100), (250, 125), (500, 250), (1000, 250), (1000, 500), (1000, 1000), (2000, 1000), (5000, 2500)]
SAMPLES = 5


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with bench() as side:
        runs = [
            [
                side.run("busmon", args.envelopes, SAMPLES, "tables", prefetch=prefetch, batch_size=batch)
                for prefetch, batch in PAIRS
            ]
            for _ in range(args.rounds)
        ]
    print(f"{'prefetch':>10}{'batch':>10}{'envelopes/s':>14}{'CPU µs/env.':>14}")
    for (prefetch, batch), *figures in zip(PAIRS, *runs, strict=True):
        rate = args.envelopes / statistics.median(each["wall"] for each in figures)
        cpu = statistics.median(each["cpu"] for each in figures) / args.envelopes * 1e6
        print(f"{prefetch:10}{batch:10}{rate:14,.0f}{cpu:14.1f}")


if __name__ == "__main__":
    entry.run(main)
