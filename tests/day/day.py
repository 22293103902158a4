"""The simulation: workers' lanes, their upkeep and an exporter on a clock that jumps from beat to beat.

The code under test reads the clocks of the module `time`, which the simulation replaces; nothing waits. Everything else
is as in a fleet: four shards, their journals and value files, expiry by presence, label budgets, scrapes that follow
the files. What the process and the files take is noted every simulated half hour. Main thread.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch
from zlib import crc32

from busmon.fleet.worker.trigger import Trigger
from busmon.registry.admission.budgets import Budgets
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.storage import journal
from busmon.settings import Settings
from tests.day.churn import DAY_SECONDS, TASKS, Body, Churn
from tests.fuzz.worked import Settlements, WorkedShard, deliver

SHARDS = 4
NOTE_SECONDS = 1800.0
SCRAPE_SECONDS = 60.0
TOLERANCE = 0.1
FORGET_SECONDS = 3600.0
"""A value that was not seen for so long gives its place to another."""


class Verdict(NamedTuple):
    """A figure's medians in the day before the last and in the last, and whether the second is within the tolerance."""

    figure: str
    plateau: float
    last: float
    is_flat: bool


class Pace(NamedTuple):
    """The scale of the simulation.

    Attributes:
        beat_seconds: between two beats; a worker beats each second.
        journal_bytes: of a journal until its checkpoint, at which silent sources are forgotten. A fleet's journal has
            16 MiB, which the bodies of a small simulation wouldn't fill in days.
    """

    beat_seconds: float
    journal_bytes: int


class Clock:
    """The clocks of the simulation, which agree: the wall clock, and those that nobody sets."""

    def __init__(self) -> None:
        self.now = self.began = time.time()

    def time(self) -> float:
        """Return the wall clock's time."""
        return self.now

    def monotonic(self, _clock: int = 0) -> float:
        """Return the time since the simulation began."""
        return self.now - self.began

    def replaces(self) -> ExitStack:
        """Put these clocks in the place of the real ones, until the end of the block."""
        stack = ExitStack()
        for name, clock in (("time", self.time), ("monotonic", self.monotonic), ("clock_gettime", self.monotonic)):
            stack.enter_context(patch.object(time, name, clock))
        return stack


class Simulation:
    """One process with all shards and an exporter.

    Attributes:
        notes: figures by name, one of each half hour.
        published: tasks that the bodies counted.
        refused: reasons of quarantined bodies.
    """

    def __init__(self, directory: Path, pace: Pace, label_values: int) -> None:
        self.notes: list[Mapping[str, float]] = []
        self.published = 0
        self.refused: list[str] = []
        self._directory = directory
        self._pace = pace
        self._label_values = label_values
        self._clock = Clock()
        self._noted_at = self._scraped_at = 0.0

    def run(self, bodies: Iterable[Body]) -> float:
        """Let all bodies arrive; return the tasks that the last scrape shows."""
        with self._clock.replaces(), self._with_journals(), self._shards() as shards:
            exposition = Exposition(self._directory, clock=self._clock.time)
            for beat, due in groupby(bodies, lambda body: int(body.at / self._pace.beat_seconds)):
                self._deliver(shards, due)
                self._clock.now = self._clock.began + (beat + 1) * self._pace.beat_seconds
                self._beat(shards, exposition)
            return exposition.collect().value(TASKS)

    def _with_journals(self) -> AbstractContextManager[object]:
        return patch.object(journal, "CAPACITY_BYTES", self._pace.journal_bytes)

    @contextmanager
    def _shards(self) -> Iterator[list[WorkedShard]]:
        settings = Settings(max_label_values=self._label_values, label_forget_seconds=FORGET_SECONDS)
        self._settlements, self._ttl_seconds = Settlements(), settings.presence_ttl_seconds
        shards = [
            WorkedShard(self._directory, number, Budgets.of(settings), self._settlements) for number in range(SHARDS)
        ]
        try:
            yield shards
        finally:
            for shard in shards:
                shard.close()

    def _deliver(self, shards: list[WorkedShard], due: Iterable[Body]) -> None:
        for body in due:
            self._clock.now = self._clock.began + body.at
            source = body.properties["headers"]["source"]
            delivery = deliver(body.number, body.content, body.routing_key, **body.properties)
            shards[crc32(source.encode()) % SHARDS].lane.deliver([delivery])
            self.published += body.tasks
        for shard in shards:
            shard.lane.close(Trigger.INTERVAL)
        self.refused += [headers["reason"] for _, headers in self._settlements.refused]
        self._settlements.settled.clear()
        self._settlements.refused.clear()

    def _beat(self, shards: list[WorkedShard], exposition: Exposition) -> None:
        now = self._clock.now
        for shard in shards:
            shard.upkeep.beat(now - self._ttl_seconds, self._directory)
            shard.suspects.forget(now)
        if now >= self._scraped_at + SCRAPE_SECONDS:
            self._scraped_at = now
            exposition.text()
        if now >= self._noted_at + NOTE_SECONDS:
            self._noted_at = now
            self.notes.append(self._note(shards, len(exposition.text())))

    def _note(self, shards: list[WorkedShard], scrape_bytes: int) -> Mapping[str, float]:
        sizes: dict[str, float] = {"journals": 0.0, "value files": 0.0, "other files": 0.0}
        for path in self._directory.iterdir():
            kind = {".journal": "journals", ".db": "value files", ".bins": "value files"}.get(
                path.suffix, "other files"
            )
            sizes[kind] += path.stat().st_blocks * 512
        return {
            "day": (self._clock.now - self._clock.began) / DAY_SECONDS,
            "private KiB": private_kib(),
            **{f"{kind}, bytes": size for kind, size in sizes.items()},
            "sources in the ledgers": sum(len(each.shard.ledger.sources) for each in shards),
            "streams": sum(len(each.shard.fold.streams._known) for each in shards),
            "series": sum(len(group.cells) for each in shards for group in each.shard.fold.groups.values()),
            "scrape, bytes": scrape_bytes,
        }


def judge(notes: list[Mapping[str, float]], days: int, noise: Mapping[str, float]) -> Iterator[Verdict]:
    """Compare the last day's medians with those of the day before.

    Args:
        notes: of all days.
        days: how many.
        noise: differences that count as none, by figure.
    """
    before = [note for note in notes if days - 2 < note["day"] <= days - 1]
    last = [note for note in notes if note["day"] > days - 1]
    for figure in [name for name in last[0] if name != "day"]:
        plateau, reached = median(note[figure] for note in before), median(note[figure] for note in last)
        difference = abs(reached - plateau)
        yield Verdict(figure, plateau, reached, difference <= plateau * TOLERANCE + noise.get(figure, 0.0))


def private_kib() -> float:
    """Return the memory that is this process's own."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    rollup = {words[0]: int(words[1]) for words in lines}
    return rollup["Private_Dirty:"] + rollup["Private_Clean:"]


def simulate(directory: Path, churn: Churn, pace: Pace) -> tuple[Simulation, float]:
    """Run all days of a churn; return the simulation and the tasks that its last scrape shows.

    A tenth of a day's values has a place at a time.
    """
    simulation = Simulation(directory, pace, churn.values // 10)
    return simulation, simulation.run(churn.bodies())
