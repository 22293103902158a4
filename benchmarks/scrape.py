"""The cost of a scrape: busmon's exposition and prometheus_client's `MultiProcessCollector`, over the same files.

    .venv/bin/python benchmarks/scrape.py [--quick] [--rounds 5] [--series 1000,10000,100000] [--shards 1,4,8]
        [--foreign] [--write]

A *series* is a line of samples. Half of them are counters', a tenth gauges', the rest histograms' with seven buckets;
each series is in every shard's files, as if many sources published it. What changes between two scrapes is spread
evenly: each changed series in one shard.

Files are written as a shard's owner writes them, journal included. With `--foreign` prometheus_client's own code writes
them, without a journal; each of its processes meets the series in an order of its own.

Each side reads them in a process of its own, which also measures itself: CPU time (user and system), which a busy
machine disturbs less than wall time, and the growth of its resident memory. Ratios are of CPU medians of one and the
same run. Compression is each side's own: `isal` at the exporter's level, and `gzip` at the level of prometheus_client's
exposition.

`--write` puts the table into docs/performance.md, and without `--foreign` the plot into docs/.
"""

import argparse
import gc
import gzip
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import children
import entry
import orjson
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, Family
from busmon.exporter.metrics.scrape import compress
from busmon.exporter.server.memory import give_back_large_blocks
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.series.columns import Column, SeriesGroup, column_of
from busmon.registry.storage.journal import Journal
from busmon.registry.storage.values import ValueFile

DOCS = Path(__file__).parents[1] / "docs"
CHANGES = (0.0, 0.01, 0.1, 1.0)
BATCH = 500
AT = 1_763_794_800.0

PUBLISHED = Family(
    "messages_published_total", COUNTER, "Messages published, by exchange and routing key", ("exchange", "routing_key")
)
DEPTH = Family("queue_size", GAUGE, "Messages in each queue", ("queue",), merge="sum")
DURATION = Family(
    "task_duration_seconds", HISTOGRAM, "How long tasks took", ("agent",), buckets=(0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
)
HISTOGRAM_LINES = len(DURATION.buckets) + 3


class Owner:
    """Writes one shard's files and journal, as its owner does."""

    def __init__(self, directory: Path, shard: int, series: int) -> None:
        self._files: dict[str, ValueFile] = {}
        self._series: list[tuple[str, list[int]]] = []
        for family, count, labels in _families(series):
            self._make(directory, shard, family, count, labels)
        self._path = directory / f"shard{shard}.journal"
        self._journal = self._new_journal()
        self._turn = random.Random(shard)  # noqa: S311 - the same files in every run
        self.change(1.0)

    def change(self, share: float) -> None:
        """Commit batches that change so much of the shard."""
        chosen = iter(self._turn.sample(self._series, round(len(self._series) * share)))
        while batch := list(islice(chosen, BATCH)):
            slots: dict[str, list[int]] = {}
            for column, places in batch:
                slots.setdefault(column, []).extend(places)
            self._commit(slots)

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._journal.close()

    def _new_journal(self) -> Journal:
        return Journal.create(self._path, orjson.dumps({}), fsync=False)

    def _make(self, directory: Path, shard: int, family: Family, count: int, labels: Callable[[int], Any]) -> None:
        name = column_of(family)
        file = self._files[name] = ValueFile(directory / f"{name}_shard{shard}.db")
        group = SeriesGroup(family, Column(name))
        for number in range(count):
            group.cell(labels(number))
        slots = iter(file.append(group.column.unwritten))
        while places := list(islice(slots, group.width)):
            self._series.append((name, places))

    def _commit(self, slots: dict[str, list[int]]) -> None:
        values = {
            name: (places, [self._files[name].doubles[place] + self._turn.randrange(1, 100) for place in places])
            for name, places in slots.items()
        }
        record = {
            "at": AT,
            "values": {name: (*both, [AT] * len(both[0])) for name, both in values.items()},
        }
        payload = orjson.dumps(record)
        if not self._journal.has_room(payload):
            self._journal.close()
            self._journal = self._new_journal()
        self._journal.commit(payload, fsync=False)
        for name, (places, numbers) in values.items():
            doubles = self._files[name].doubles
            for place, number in zip(places, numbers, strict=True):
                doubles[place], doubles[place + 1] = number, AT
        self._journal.clear()


class Foreigner:
    """Writes the files of one process by prometheus_client's own code."""

    def __init__(self, directory: Path, number: int, series: int) -> None:
        self._turn = random.Random(number)  # noqa: S311 - the same files in every run
        self._files: dict[str, MmapedDict] = {}
        self._series: list[tuple[str, list[str]]] = []
        for family, count, labels in _families(series):
            name = column_of(family)
            self._files[name] = MmapedDict(str(directory / f"{name}_{number}.db"))  # type: ignore[no-untyped-call]
            group = SeriesGroup(family, Column(name))
            for each in range(count):
                group.cell(labels(each))
            keys = map(bytes.decode, group.column.unwritten)
            self._series += ((name, [*islice(keys, group.width)]) for _ in range(count))
        self.change(1.0)

    def change(self, share: float) -> None:
        """Change so much of the series."""
        for name, keys in self._turn.sample(self._series, round(len(self._series) * share)):
            for key in keys:
                value, at = self._files[name].read_value(key)  # type: ignore[no-untyped-call]
                self._files[name].write_value(key, value + self._turn.randrange(1, 100), at)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()  # type: ignore[no-untyped-call]


Writer = Owner | Foreigner
"""The writer of one shard's files, or of one process's."""


@dataclass(slots=True)
class Cost:
    """Seconds that something took, once for each time that it was done."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def of(self, call: Callable[[], Any]) -> Any:
        """Do it once more."""
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        result = call()
        self.cpu.append(time.process_time() - cpu)
        self.wall.append(time.perf_counter() - wall)
        return result


Figures = dict[str, Any]
"""What one side measured: for each thing done its CPU and wall seconds, and `bytes` a series."""


def ours(directory: Path, series: int, rounds: int, change: Callable[[float], None]) -> Figures:
    """Measure busmon's exposition: cold, then after changes of each size, and compressed."""
    give_back_large_blocks()
    costs = {name: Cost() for name in ("cold", "gzip", *map(str, CHANGES))}
    before = _resident_bytes()
    exposition = Exposition(directory)
    text = costs["cold"].of(exposition.text)
    for share in CHANGES:
        for _ in range(rounds):
            change(share)
            text = costs[str(share)].of(exposition.text)
            costs["gzip"].of(partial(compress, text))
    memory = (_resident_bytes() - before) / series
    for _ in range(rounds - 1):
        costs["cold"].of(Exposition(directory).text)
    return {name: [_median(cost.cpu), _median(cost.wall)] for name, cost in costs.items()} | {"bytes": memory}


def stock(directory: Path, series: int, rounds: int, _: Callable[[float], None]) -> Figures:
    """Measure prometheus_client's exposition; each of its scrapes is cold."""
    costs = {name: Cost() for name in ("cold", "gzip")}
    before = _resident_bytes()
    for _round in range(rounds):
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=str(directory))  # type: ignore[no-untyped-call]  # not annotated there
        text = costs["cold"].of(partial(generate_latest, registry))
        costs["gzip"].of(partial(gzip.compress, text))
    memory = (_resident_bytes() - before) / series
    return {name: [_median(cost.cpu), _median(cost.wall)] for name, cost in costs.items()} | {"bytes": memory}


SIDES = {"ours": ours, "stock": stock}


def measure(side: str, directory: Path, series: int, rounds: int, writers: Sequence[Writer]) -> Figures:
    """Run one side in a process of its own, and change the files when it asks for it."""
    command = [sys.executable, __file__, "--measure", side, str(directory), str(series), "--rounds", str(rounds)]
    with children.running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise SystemExit("no pipes")
        for line in stdout:
            said = json.loads(line)
            if isinstance(said, dict):
                return said
            for writer in writers:
                writer.change(said / len(writers))
            stdin.write("\n")
            stdin.flush()
    raise SystemExit(f"{side} ended without figures")


def ask_for_change(share: float) -> None:
    """Ask the process that owns the files to change them."""
    print(json.dumps(share), flush=True)
    sys.stdin.readline()


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table."""

    series: int
    shards: int
    ours: Figures
    stock: Figures | None

    def cells(self) -> Iterator[str]:
        """Word the row: milliseconds of CPU, and in brackets how many times the stock's that is."""
        yield f"{self.series:,}"
        yield str(self.shards)
        yield f"{self.stock['cold'][0] * 1e3:,.0f}" if self.stock else ""
        for name in ("cold", *map(str, CHANGES)):
            yield self._cell(self.ours[name][0], self.stock["cold"][0] if self.stock else None)
        whole = self.ours["0.1"][0] + self.ours["gzip"][0]
        yield self._cell(whole, self.stock["cold"][0] + self.stock["gzip"][0] if self.stock else None)
        yield f"{self.ours['bytes']:,.0f}"

    @staticmethod
    def _cell(cost: float, baseline: float | None) -> str:
        return f"{cost * 1e3:,.1f} ({baseline / cost:,.3g}x)" if baseline else f"{cost * 1e3:,.1f}"


HEADINGS = ("series", "shards", "stock", "cold", "nothing changed", "1 %", "10 %", "100 %", "10 % and gzip", "bytes")


def run(series: int, shards: int, rounds: int, kind: type[Owner] | type[Foreigner], *, with_stock: bool) -> Case:
    """Write the files of one case, and have both sides read them."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as scratch:
        directory = Path(scratch)
        writers = [kind(directory, shard, series) for shard in range(shards)]
        figures = measure("ours", directory, series, rounds, writers)
        baseline = measure("stock", directory, series, min(rounds, 3), writers) if with_stock else None
        for writer in writers:
            writer.close()
    return Case(series, shards, figures, baseline)


def table(cases: Sequence[Case]) -> str:
    """Write the cases as Markdown."""
    rows = [HEADINGS, ["---:"] * len(HEADINGS), *(list(case.cells()) for case in cases)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def plot(cases: Sequence[Case], path: Path) -> None:
    """Plot CPU by series, for the cases with the most shards."""
    from matplotlib import pyplot as plt  # noqa: PLC0415 - of the group `benchmarks`, which only this needs
    from matplotlib.ticker import FuncFormatter  # noqa: PLC0415 - as above

    most = max(case.shards for case in cases if case.stock)
    shown = [case for case in cases if case.shards == most and case.stock]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    across = [case.series for case in shown]
    axes.plot(across, [case.stock["cold"][0] * 1e3 for case in shown if case.stock], "o-", label="prometheus_client")
    for name, label in (("cold", "busmon, cold"), ("0.1", "busmon, 10 % changed"), ("0.0", "busmon, nothing changed")):
        axes.plot(across, [case.ours[name][0] * 1e3 for case in shown], "o-", label=label)
    axes.set(xscale="log", yscale="log", title="What a scrape costs", xlabel=f"series, each in {most} shards")
    axes.set_ylabel("CPU time a scrape")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda series, _: f"{series:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:,g} ms"))
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


def write(cases: Sequence[Case], place: str) -> None:
    """Put the table into its place in the documentation."""
    page, begin, end = DOCS / "performance.md", f"<!-- {place} -->\n", f"<!-- /{place} -->\n"
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{table(cases)}\n{end}{after}")


def _families(series: int) -> Iterator[tuple[Family, int, Callable[[int], tuple[str, ...]]]]:
    """List families, how many series of each, and their label values."""
    yield PUBLISHED, series // 2, lambda number: (f"exchange-{number % 10}", f"task.{number}")
    yield DEPTH, series // 10, lambda number: (f"telemetry.tasks.{number}",)
    yield DURATION, series * 4 // 10 // HISTOGRAM_LINES, lambda number: (f"analyzer-{number}",)


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def main() -> None:
    """Run every case, or measure one side of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10,000 series only, in a minute")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--series", default="1000,10000,100000")
    parser.add_argument("--shards", default="1,4,8")
    parser.add_argument("--largest", type=int, default=1_000_000, help="series of the case without stock; 0 for none")
    parser.add_argument("--foreign", action="store_true", help="files that prometheus_client's processes wrote")
    parser.add_argument("--write", action="store_true", help="put the table and the plot into docs/")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        side, directory, series = args.measure
        print(json.dumps(SIDES[side](Path(directory), int(series), args.rounds, ask_for_change)))
        return
    if args.write and not args.foreign:
        entry.require_library("matplotlib")
    kind = Foreigner if args.foreign else Owner
    sizes = [10_000] if args.quick else list(map(int, args.series.split(",")))
    cases = []
    for series in sizes:
        for shards in map(int, args.shards.split(",")):
            cases.append(run(series, shards, args.rounds, kind, with_stock=True))
            print(" | ".join(cases[-1].cells()), flush=True)
    if args.largest and not args.quick and not args.foreign:
        cases.append(run(args.largest, 1, args.rounds, kind, with_stock=False))
    print(f"\nCPU milliseconds a scrape, and how many times less than stock's\n\n{table(cases)}")
    if args.write and args.foreign:
        write(cases, "foreign scrape")
    elif args.write:
        write(cases, "scrape")
        plot(cases, DOCS / "scrape.svg")


if __name__ == "__main__":
    entry.run(main)
