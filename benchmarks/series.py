"""What many series cost a worker: CPU time an envelope, and memory, with 1,000 to 200,000 of them in one shard.

    .venv/bin/python benchmarks/series.py [--series 1000,10000,200000] [--envelopes 20000]

Each number of series has a process of its own that decodes, folds and commits envelopes of 5 samples in batches of 500,
as a worker does; their series are picked at random, a fifth are histograms' with 7 buckets. Memory is the resident
set at the end, less the bodies that were fed.
"""

import argparse
import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.shard.shard import Shard
from busmon.wire.json_v1 import decode

SAMPLES = 5
ROUNDS = 5
BATCH = 500
OBSERVED_EVERY = 5
MAX_BYTES = 1_048_576


def bodies(series: list[int], sequence: int) -> Iterator[bytes]:
    """Envelopes with a sample of each of these series."""
    for at in range(0, len(series), SAMPLES):
        picked = series[at : at + SAMPLES]
        tables = [
            {
                "name": "messages_published_total",
                "labels": ["exchange", "routing_key"],
                "rows": [[f"exchange-{n % 10}", f"task.{n}", 1] for n in picked if n % OBSERVED_EVERY],
            },
            {
                "name": "task_duration_seconds",
                "labels": ["agent"],
                "rows": [[f"analyzer-{n}", [0.2]] for n in picked if not n % OBSERVED_EVERY],
            },
        ]
        sequence += 1
        yield orjson.dumps({"v": 1, "source": "a", "agent": "analyzer", "ts": time.time(), "tables": tables})


def consume(shard: Shard, given: list[bytes], sequence: int) -> None:
    """Decode, fold and commit."""
    for number, body in enumerate(given, 1):
        now = time.time()
        envelope = decode(body, "application/json", None, MAX_BYTES)
        shard.ledger.admit(envelope.source, f"a:{sequence + number}", now)
        shard.fold.envelope(envelope, now)
        if number % BATCH == 0 or number == len(given):
            shard.commit(now)


def resident_bytes() -> int:
    """What the process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def measure(count: int, envelopes: int) -> dict[str, float]:
    """CPU seconds an envelope, and bytes, with so many series."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory:
        catalogue = Catalogue.load()
        shard = Shard.open(Path(directory), 0, Families(Path(directory), catalogue, 0))
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        sequence, chosen, took = 0, random.Random(7), []  # noqa: S311 - no secret
        every = list(range(count))
        for start in range(0, count, envelopes * SAMPLES):
            given = list(bodies(every[start : start + envelopes * SAMPLES], sequence))
            consume(shard, given, sequence)
            sequence += len(given)
        for _ in range(ROUNDS):
            given = list(bodies(chosen.choices(every, k=envelopes * SAMPLES), sequence))
            began = time.process_time()
            consume(shard, given, sequence)
            took.append((time.process_time() - began) / envelopes)
            sequence += envelopes
        fed = sum(map(sys.getsizeof, given))
        gc.collect()
        found = {"cpu": statistics.median(took), "bytes": resident_bytes() - fed}
        shard.close()
        return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", default="1000,10000,200000")
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args.measure, args.envelopes)))
        return
    print(f"{'series':>10}{'CPU µs/env.':>14}{'÷ fewest':>10}{'memory MB':>12}{'KB a series above 60 MB':>26}")
    fewest = 0.0
    for count in map(int, args.series.split(",")):
        command = [sys.executable, __file__, "--measure", str(count), "--envelopes", str(args.envelopes)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        fewest = fewest or found["cpu"]
        above = (found["bytes"] - 60e6) / count / 1e3
        row = f"{count:10,}{found['cpu'] * 1e6:14.1f}{found['cpu'] / fewest:10.2f}{found['bytes'] / 1e6:12.1f}"
        print(row + f"{above:26.2f}")


if __name__ == "__main__":
    main()
