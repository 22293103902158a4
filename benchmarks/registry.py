"""The cost of counting: the same samples into busmon's shard files and into prometheus_client's multiprocess files.

    .venv/bin/python benchmarks/registry.py [--rounds 9] [--write docs/performance.md]

- *stock*: `labels(…).inc()`, `.set()` or `.observe()` for each sample, with `PROMETHEUS_MULTIPROC_DIR` set, so that
  each call writes its values into a mapped file. Nothing is deduplicated, and a kill leaves part of a batch.
- *busmon*: fold and commit: the journal, the value files, for a gauge its sources, for a summary its sketch.

Bodies are parsed by `orjson.loads` on the stock side and by busmon's decoder on the other, which also asks the ledger.
Both sides run in turn in every round, in one process, with the collector tuned as a worker tunes it; printed are
medians of CPU time, user and system. Only a commit with fsync is wall time, since a disk takes no CPU.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

_STOCK_DIR = tempfile.TemporaryDirectory(prefix="busmon-benchmark-")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _STOCK_DIR.name  # prometheus_client looks when it is imported

import backlog  # noqa: E402
import entry  # noqa: E402
import orjson  # noqa: E402
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary  # noqa: E402

from busmon import garbage  # noqa: E402
from busmon.catalogue.catalogue import Catalogue  # noqa: E402
from busmon.registry.admission.families import Families  # noqa: E402
from busmon.registry.shard.shard import Shard  # noqa: E402
from busmon.wire.envelope import Envelope  # noqa: E402
from busmon.wire.json_v1 import decode  # noqa: E402

SERIES = 100
BATCHES = (1, 10, 100, 1000)
ENVELOPES_A_BATCH = (1, 50, 500)
SAMPLES = 100
MAX_BODY_BYTES = 1 << 20
MICROSECONDS = 1e6
MILLISECONDS = 1e3

_REGISTRY = CollectorRegistry()
_BUCKETS = (0.1, 0.5, 1, 2, 5, 10)
_STOCK: dict[str, Any] = {
    "messages_published_total": Counter("messages_published", "…", ["exchange", "routing_key"], registry=_REGISTRY),
    "queue_size": Gauge("queue_size", "…", ["queue"], registry=_REGISTRY, multiprocess_mode="mostrecent"),
    "task_duration_seconds": Histogram("task_duration_seconds", "…", ["agent"], buckets=_BUCKETS, registry=_REGISTRY),
    "fetch_seconds": Summary("fetch_seconds", "…", ["host"], registry=_REGISTRY),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """Samples of one type, in both forms.

    Attributes:
        labels: of one series, by its number.
        count: how the stock classes count a value.
    """

    type: str
    name: str
    labelnames: tuple[str, ...]
    labels: Callable[[int], list[str]]
    count: Callable[[Any, float], None]

    def table(self, samples: int) -> dict[str, Any]:
        """Make a table of the given number of samples, over all series."""
        rows = [[*self.labels(number % SERIES), 0.25 + number % 7] for number in range(samples)]
        return {"name": self.name, "type": self.type, "labels": [*self.labelnames], "rows": rows}


KINDS = (
    Kind(
        "counter",
        "messages_published_total",
        ("exchange", "routing_key"),
        lambda n: [f"exchange-{n % 10}", f"task.{n}"],
        lambda child, value: child.inc(value),
    ),
    Kind("gauge", "queue_size", ("queue",), lambda n: [f"queue-{n}"], lambda child, value: child.set(value)),
    Kind(
        "histogram",
        "task_duration_seconds",
        ("agent",),
        lambda n: [f"analyzer-{n}"],
        lambda child, value: child.observe(value),
    ),
    Kind("summary", "fetch_seconds", ("host",), lambda n: [f"host-{n}"], lambda child, value: child.observe(value)),
)
_COUNT = {kind.name: kind.count for kind in KINDS}


@contextmanager
def shard(*, fsync: bool = False) -> Iterator[Shard]:
    """Open a shard of a new directory."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory:
        opened = Shard.open(Path(directory), 0, Families(Path(directory), Catalogue.load(), 10), fsync=fsync)
        try:
            yield opened
        finally:
            opened.close()


def medians(rounds: int, *sides: Callable[[], float]) -> list[float]:
    """Compute each side's median; all sides take turns in every round, and the first round warms up."""
    taken = [[side() for side in sides] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*taken, strict=True)]


def cpu_seconds(work: Callable[[Any], object], items: Iterable[Any]) -> float:
    """Measure the CPU time of the work on all items, which are made before."""
    made = list(items)
    began = time.process_time()
    for item in made:
        work(item)
    return time.process_time() - began


# -- fold and commit ---------------------------------------------------------------------------------------------------


def by_type(rounds: int, repeats: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each type and batch size: CPU time of a sample."""
    for kind in KINDS:
        for batch in BATCHES:
            with shard() as opened:
                yield _row(kind.type, f"{batch:,}", *_counting(kind, batch, opened, rounds, max(20, repeats // batch)))


def _counting(kind: Kind, batch: int, opened: Shard, rounds: int, repeats: int) -> list[float]:
    def ours() -> float:
        envelopes = (Envelope("source", "agent", None, [], [kind.table(batch)]) for _ in range(repeats))
        return cpu_seconds(lambda envelope: _fold_and_commit(opened, envelope), envelopes)

    def theirs() -> float:
        return cpu_seconds(_count_table, (kind.table(batch) for _ in range(repeats)))

    return [seconds / repeats / batch * MICROSECONDS for seconds in medians(rounds, theirs, ours)]


def _fold_and_commit(opened: Shard, envelope: Envelope) -> None:
    now = time.time()
    opened.fold.envelope(envelope, now)
    opened.commit(now)


def _count_table(table: dict[str, Any]) -> None:
    metric, count = _STOCK[table["name"]], _COUNT[table["name"]]
    for *labels, value in table["rows"]:
        for number in value if type(value) is list else (value,):
            count(metric.labels(*labels), number)


# -- decode, fold and commit -------------------------------------------------------------------------------------------


def of_bodies(rounds: int, envelopes: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each form and batch size: CPU time of an envelope of 100 samples, from its bytes on."""
    for form in ("tables", "samples"):
        for batch in ENVELOPES_A_BATCH:
            with shard() as opened:
                yield _row(form, f"{batch:,}", *_consuming(form, batch, opened, rounds, max(envelopes, batch)))


def _consuming(form: str, batch: int, opened: Shard, rounds: int, envelopes: int) -> list[float]:
    def ours() -> float:
        bodies = list(backlog.envelopes(envelopes, SAMPLES, form))
        batches = [bodies[start : start + batch] for start in range(0, envelopes, batch)]
        return cpu_seconds(lambda bodies: _consume(opened, bodies), batches)

    def theirs() -> float:
        return cpu_seconds(_count_body, (body for body, _ in backlog.envelopes(envelopes, SAMPLES, form)))

    return [seconds / envelopes * MICROSECONDS for seconds in medians(rounds, theirs, ours)]


def _consume(opened: Shard, bodies: Sequence[tuple[bytes, Any]]) -> None:
    now = time.time()
    for body, properties in bodies:
        envelope = decode(body, properties.content_type, properties.content_encoding, MAX_BODY_BYTES)
        opened.ledger.admit(envelope.source, properties.message_id, now)
        opened.fold.envelope(envelope, now)
    opened.commit(now)


def _count_body(body: bytes) -> None:
    document = orjson.loads(body)
    for table in document.get("tables", ()):
        _count_table(table)
    for sample in document.get("samples", ()):
        _COUNT[sample["name"]](_STOCK[sample["name"]].labels(**sample["labels"]), sample["value"])


# -- fsync ---------------------------------------------------------------------------------------------------------


def of_fsync(rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield a row for each batch size: the wall time of a commit without fsync and with it."""
    with shard() as volatile, shard(fsync=True) as durable:
        for batch in ENVELOPES_A_BATCH:
            without, with_ = medians(
                rounds * 5, partial(_commit_seconds, volatile, batch), partial(_commit_seconds, durable, batch)
            )
            yield f"{batch:,}", f"{without * MILLISECONDS:.2f}", f"{with_ * MILLISECONDS:.2f}"


def _commit_seconds(opened: Shard, envelopes: int) -> float:
    for body, _ in backlog.envelopes(envelopes, 5, "tables"):
        opened.fold.envelope(decode(body, None, None, MAX_BODY_BYTES), time.time())
    began = time.perf_counter()
    opened.commit(time.time())
    return time.perf_counter() - began


# -- the report --------------------------------------------------------------------------------------------------------


def _row(what: str, batch: str, theirs: float, ours: float) -> tuple[str, ...]:
    return what, batch, f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}"


def markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Word a table, with its numbers aligned right."""
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def report(rounds: int, repeats: int) -> str:
    """Word all tables."""
    return "\n".join(
        (
            f"CPU time of a sample, fold and commit, µs; {SERIES} series, medians of {rounds} rounds:\n",
            markdown(("type", "samples in a batch", "stock", "busmon", "stock ÷ busmon"), by_type(rounds, repeats)),
            f"CPU time of an envelope of {SAMPLES} samples, from its bytes to the files, µs:\n",
            markdown(
                ("form", "envelopes in a batch", "stock", "busmon", "stock ÷ busmon"), of_bodies(rounds, repeats // 10)
            ),
            "Wall time of a commit, ms:\n",
            markdown(("envelopes in a batch", 'fsync = "off"', 'fsync = "commit"'), of_fsync(rounds)),
        )
    )


def write(path: Path, text: str) -> None:
    """Put the tables between the markers of a document."""
    before, _, rest = path.read_text().partition("<!-- registry -->\n")
    _, marker, after = rest.partition("<!-- /registry -->")
    if not marker:
        raise SystemExit(f"{path}: expected the markers <!-- registry --> and <!-- /registry -->")
    path.write_text(f"{before}<!-- registry -->\n{text}{marker}{after}")


def main() -> None:
    """Measure, print, and write where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=10_000, help="samples of a type in a round")
    parser.add_argument("--write", type=Path, help="also write the tables between the markers of this document")
    args = parser.parse_args()
    garbage.tune_for_deliveries()
    text = report(args.rounds, args.repeats)
    print(text)
    if args.write:
        write(args.write, text)


if __name__ == "__main__":
    entry.run(main)
