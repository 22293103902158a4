"""The cost of the page and `busmon top` next to a scrape: the overview's figures of the same collection, and its JSON.

    .venv/bin/python benchmarks/overview.py [--series 100000] [--agents 100] [--families 200] [--rounds 20]

A hundredth of the series changes between two rounds. Each round collects and writes out a scrape, as the exporter's
thread does; then takes the overview's figures from the same collection, in the same thread; then makes the document
that all viewers share, which the event loop does. CPU time, medians; the ratio is to the scrape of the same run.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import entry
import orjson
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from scrape import Cost, Owner

from busmon.catalogue.catalogue import Catalogue
from busmon.exporter.overview.fill import Fill
from busmon.exporter.overview.overview import Surroundings, overview
from busmon.exporter.overview.window import Figures, Window, figures
from busmon.exporter.readiness.documents import liveness, readiness
from busmon.exporter.readiness.rollcall import RollCall, call
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings
from busmon.status import FleetStatus, ShardStatus, WorkerStatus

SHARDS = 4
QUEUES = [f"telemetry.fold.{shard}" for shard in range(SHARDS)]
BOUNDS = ("0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")


class Told:
    """The registry of a fleet's own metrics: agents, latencies, and many families of one series."""

    def __init__(self, directory: Path, agents: int, families: int) -> None:
        self._directory = directory
        for agent in (f"agent-{number}" for number in range(agents)):
            self._tell("gauge_max", "busmon_last_envelope_timestamp_seconds", {"agent": agent}, time.time())
            rejected = {"agent": agent, "reason": "bad_value"}
            self._tell("counter", "busmon_samples_rejected", rejected, 3, suffix="_total")
        for queue in QUEUES:
            for bound in BOUNDS:
                self._tell("histogram", "message_latency_seconds", {"queue": queue, "le": bound}, 9, suffix="_bucket")
        for number in range(families):
            self._tell("counter", f"family_{number}", {}, 1, suffix="_total")

    def _tell(self, column: str, name: str, labels: dict[str, str], value: float, suffix: str = "") -> None:
        file = MmapedDict(str(self._directory / f"{column}_1.db"))  # type: ignore[no-untyped-call]
        key = mmap_key(name, name + suffix, [*labels], [*labels.values()], "Told.")
        file.write_value(key, value, time.time())  # type: ignore[no-untyped-call]
        file.close()  # type: ignore[no-untyped-call]


def roll() -> RollCall:
    """Make a fleet of two workers that owns the shards."""
    now = time.time()
    shards = [ShardStatus(shard, queue, "consuming", "", 0, now) for shard, queue in enumerate(QUEUES)]
    workers = tuple(WorkerStatus(number, number, now, now, shards[number::2]) for number in range(2))
    return call(FleetStatus(None, workers), now)


def document(window: Window) -> bytes:
    """Make the document that all viewers share."""
    present, around = roll(), Surroundings("0", "http://127.0.0.1:9797/metrics", "telemetry", 0, 1_000_000, None, {})
    return orjson.dumps(overview(window, present, liveness(present, "0", time.time()), readiness(present), around))


def main() -> None:
    """Measure, and print it."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("series", 100_000), ("agents", 100), ("families", 200), ("rounds", 20)):
        options.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"(default: {default})")
    asked = options.parse_args()
    scrape, taken, made, window = Cost(), Cost(), Cost(), Window()
    with tempfile.TemporaryDirectory(prefix="busmon-overview-") as name:
        directory = Path(name)
        owners = [Owner(directory, shard, asked.series) for shard in range(SHARDS)]
        Told(directory, asked.agents, asked.families)
        exposition, catalogue = Exposition(directory, Catalogue.load()), Catalogue.load()
        fill = Fill(Settings(registry_dir=directory), catalogue)

        def take() -> Figures:
            snapshot = exposition.snapshot
            return figures(time.monotonic(), snapshot, roll().shards, fill.rows(snapshot, exposition.series))

        exposition.text()
        size = 0
        for _ in range(asked.rounds):
            for owner in owners:
                owner.change(0.01 / SHARDS)
            scrape.of(exposition.text)
            window.add(taken.of(take))
            size = len(made.of(lambda: document(window)))
        for owner in owners:
            owner.close()
    of_scrape, of_figures, of_document = (statistics.median(cost.cpu) * 1000 for cost in (scrape, taken, made))
    print(f"{asked.series:,} lines of samples, {asked.agents} agents, {asked.families} more families; medians of CPU")
    print(f"a scrape                        {of_scrape:7.2f} ms")
    print(f"the overview's figures of it    {of_figures:7.2f} ms   {of_figures / of_scrape:.2f} of the scrape")
    print(f"the document for all viewers    {of_document:7.2f} ms   {size:,} bytes")


if __name__ == "__main__":
    entry.run(main)
