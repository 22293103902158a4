"""The cost of each kind of row that the SDK publishes, from the bytes to the changes of a batch.

    .venv/bin/python benchmarks/rows.py [--rounds 9]

The SDK's own code makes the bodies, 20 rows each. *scanned* is the fold as it is, with its compiled modules; *short* is
the fold of parsed bodies, which is how it is without them; *ordinary* is the same fold without its short way, each row
looked at with care; *json* is `orjson.loads` alone. All take turns in every round, in one process; printed are medians
of CPU time, user and system, of a row.
"""

import argparse
import gc
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import entry
import orjson

from busmon.catalogue.catalogue import Catalogue
from busmon.publish.batch import Origin, Row, Table, seal
from busmon.registry.admission.families import Families
from busmon.registry.fold import shortcuts
from busmon.registry.shard.shard import Shard
from busmon.wire.json_v1 import decode

BODIES = 100
ROWS = 20
SOURCES = 10
MAX_BODY_BYTES = 1 << 20

_random = random.Random(1)  # noqa: S311 - the same bodies in every run
_CATALOGUE = Catalogue.load()
_COUNTER = Table("messages_published_total", ("exchange", "routing_key"))
_GAUGE = Table("queue_size", ("queue",))
_HISTOGRAM = Table("task_duration_seconds", ("agent",))
_BOUNDS = (*map(repr, _CATALOGUE.families["task_duration_seconds"].buckets), "+Inf")


def _make_counter(number: int, _at: float) -> Row:
    return Row(_COUNTER, (f"exchange-{number % 10}", f"task.{number}"), _random.randrange(1, 100))


def _make_gauge(number: int, at: float) -> Row:
    return Row(_GAUGE, (f"queue-{number}",), _random.randrange(1000), at + number * 1e-6)


def _make_observed(values: int) -> Callable[[int, float], Row]:
    return lambda number, _at: Row(
        _HISTOGRAM, (f"agent-{number}",), [round(_random.random() * 10, 4) for _ in range(values)]
    )


def _make_counted(number: int, _at: float) -> Row:
    counts = {bound: _random.choice((0, 0, 3, 17)) for bound in _BOUNDS}
    return Row(_HISTOGRAM, (f"agent-{number}",), {"buckets": counts, "sum": _random.random() * 100})


KINDS: Mapping[str, Callable[[int, float], Row]] = {
    "counter": _make_counter,
    "gauge": _make_gauge,
    "histogram, 1 observation": _make_observed(1),
    "histogram, 4 observations": _make_observed(4),
    "histogram, counts by bucket": _make_counted,
}


@contextmanager
def shard() -> Iterator[Shard]:
    """Open a shard on a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as scratch:
        families = Families(Path(scratch), _CATALOGUE, 100)
        opened = Shard.open(Path(scratch), 0, families, fsync=False)
        try:
            yield opened
        finally:
            opened.close()


def measure(make: Callable[[int, float], Row], rounds: int) -> list[float]:
    """Return the microseconds of a row: scanned, short, ordinary and JSON alone."""
    costs: list[list[float]] = [[], [], [], []]
    known = dict(shortcuts._BY_TYPE)  # noqa: SLF001 - the short way is what is measured
    with shard() as opened:
        for number in range(rounds + 1):
            for cost, fold, way in zip(costs, (_scan, _fold, _fold, None), (known, known, {}, {}), strict=True):
                bodies = [*_bodies(make, number)]
                shortcuts._BY_TYPE = way  # noqa: SLF001 - as above
                opened.fold._routes.table_ways.clear()  # noqa: SLF001 - the other way's
                for body in bodies:
                    _scan(opened, body)  # so that its texts are known
                opened.commit(time.time())
                gc.collect()
                began = time.process_time()
                for body in bodies:
                    fold(opened, body) if fold else orjson.loads(body)
                cost.append(time.process_time() - began)
                opened.commit(time.time())
    shortcuts._BY_TYPE = known  # noqa: SLF001 - as above
    return [statistics.median(cost[1:]) / BODIES / ROWS * 1e6 for cost in costs]


def _bodies(make: Callable[[int, float], Row], turn: int) -> Iterator[bytes]:
    for number in range(BODIES):
        at = time.time() - 100 + turn + number / BODIES
        rows = [make(row, at) for row in range(ROWS)]
        yield from (sealed.body for sealed in seal(Origin(f"agent-{number % SOURCES}", "agent"), at, rows))


def _scan(opened: Shard, body: bytes) -> Any:
    (envelope,) = opened.fold.texts.read([body])
    opened.fold.envelopes([envelope], [time.time()], [None]) if envelope else _fold(opened, body)


def _fold(opened: Shard, body: bytes) -> Any:
    opened.fold.envelope(decode(body, None, None, MAX_BODY_BYTES), time.time())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    print(f"{'CPU µs a row':30}{'json':>8}{'ordinary':>10}{'short':>8}{'scanned':>9}{'short ÷ scanned':>18}")
    for kind, make in KINDS.items():
        scanned, short, ordinary, json = measure(make, args.rounds)
        print(f"{kind:30}{json:>8.2f}{ordinary:>10.2f}{short:>8.2f}{scanned:>9.2f}{short / scanned:>18.1f}", flush=True)


if __name__ == "__main__":
    entry.run(main)
