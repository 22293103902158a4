"""A scrape during a shard's commits stands between two batches, whatever the owner does meanwhile, and dies of what."""

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from busmon.registry.scrape import followed
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.tables import ValueTable
from busmon.registry.storage import journal
from tests.unit.registry.crashes import each_line, states
from tests.unit.registry.registries import NOW, Registry

if TYPE_CHECKING:
    from busmon.registry.scrape.snapshot import RegistrySnapshot

COUNTERS = [{"name": "tasks_processed_total", "labels": {"agent": a, "status": "s"}, "value": 1} for a in "abc"]
WAIT = {"name": "task_duration_seconds", "labels": {"agent": "a"}, "value": 1}
SIZE = {"name": "request_size_bytes", "value": 1}
FILES = {"name": "open_files", "type": "gauge", "op": "add", "value": 1}


def deliver_batch(registry: Registry, number: int, *, page: int = 0) -> None:
    """Commit the batch of this number: one more of everything, in every file; the gauge says the number."""
    gauge = {"name": "queue_size", "labels": {"queue": "q"}, "value": number}
    hit = {"name": "hits", "type": "counter", "labels": {"page": str(page)}, "value": 1}
    registry.deliver(f"s-1:{number}", *COUNTERS, WAIT, SIZE, FILES, gauge, hit, now=NOW + number)
    registry.commit(NOW + number)


def batches(scraped: "RegistrySnapshot") -> int:
    """How many batches a scrape shows; every figure in it must say the same."""
    said = {
        *(scraped.value("tasks_processed_total", agent=agent) for agent in "abc"),
        scraped.value("task_duration_seconds_count"),
        scraped.value("task_duration_seconds_sum"),
        scraped.value("request_size_bytes_count"),
        scraped.value("open_files"),
        scraped.value("queue_size"),
        scraped.value("hits_total"),
    }
    assert len(said) == 1, said
    return int(said.pop())


@contextmanager
def at_line(wanted: int, happen: Callable[[], None]) -> Iterator[list[str]]:
    """Let something happen before the line of the registry with this number; gives a list that has it once it did."""
    passed: list[str] = []
    reached: list[str] = []

    def look(line: str) -> None:
        passed.append(line)
        if len(passed) == wanted:
            reached.append(line)
            happen()

    with each_line(look):
        yield reached


@pytest.mark.parametrize(
    ("capacity", "record_cost"),
    [(1 << 20, 30), (1 << 20, 0), (0, 0)],
    ids=["read whole", "followed through the journal", "with a new journal each time"],
)
@pytest.mark.parametrize("pages", [False, True], ids=["of known series", "of new series, too"])
def test_a_commit_at_any_line_of_a_scrape_is_seen_whole_or_not_at_all(
    capacity: int,
    record_cost: int,
    pages: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", capacity)
    monkeypatch.setattr(followed, "_RECORD_COST", record_cost)
    with Registry(tmp_path) as registry:
        deliver_batch(registry, 1)
        exposition = Exposition(tmp_path)
        committed = line = 1
        while True:
            before = committed

            def commit(before: int = before) -> None:
                deliver_batch(registry, before + 1, page=before // 3 if pages else 0)

            with at_line(line, commit) as reached:
                scraped = exposition.collect()
            committed += bool(reached)
            assert before <= batches(scraped) <= committed
            assert not exposition.skipped
            if not reached:
                break
            line += 5
        assert line > 100
        assert batches(exposition.collect()) == committed


def test_the_first_file_of_a_type_is_seen_with_its_batch_or_not_at_all(tmp_path: Path) -> None:
    line = 0
    reached = ["the first"]
    while reached:
        line += 3
        directory = tmp_path / str(line)
        directory.mkdir()
        with Registry(directory) as registry:
            registry.fold(COUNTERS[0])
            registry.commit()

            def commit(registry: Registry = registry) -> None:
                registry.fold(COUNTERS[0], SIZE)
                registry.commit()

            with at_line(line, commit) as reached:
                scraped = Exposition(directory).collect()
            seen = scraped.value("tasks_processed_total"), scraped.value("request_size_bytes_count")
            assert seen in {(1.0, 0.0), (2.0, 1.0)}


def test_a_shard_that_makes_series_all_the_time_is_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ValueTable.read
    with Registry(tmp_path) as registry:
        deliver_batch(registry, 1)
        exposition = Exposition(tmp_path)
        committed = 1

        def read_and_commit(table: ValueTable) -> None:
            nonlocal committed
            read(table)
            committed += 1
            deliver_batch(registry, committed, page=committed)

        with monkeypatch.context() as busy:
            busy.setattr(ValueTable, "read", read_and_commit)
            scraped = exposition.collect()
        assert not exposition.skipped
        assert scraped.value("tasks_processed_total", agent="a") == committed
        assert batches(exposition.collect()) == committed


def test_a_scrape_beside_an_opening_owner_never_goes_back(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", 1 << 16)
    directory, copy = tmp_path_factory.mktemp("registry"), tmp_path_factory.mktemp("copy")
    with Registry(directory) as registry:
        for number in range(1, 7):
            deliver_batch(registry, number, page=number)
    for state in states(directory, lambda _: Registry(directory).__exit__()):
        state.lay_out(copy)
        assert batches(Exposition(copy).collect()) == 6, state.line


OWNER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from busmon.registry.storage import journal
from tests.unit.registry.registries import Registry
from tests.unit.registry.shard.test_boundaries import deliver_batch
journal.CAPACITY_BYTES = 30_000
with Registry(Path(sys.argv[2])) as registry:
    for number in range(max(1, int(sys.argv[3]) - 2), 1_000_000):
        deliver_batch(registry, number, page=number // 500)
        os.write(1, number.to_bytes(8))
"""


@contextmanager
def owner(directory: Path, acked: int) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that commits batch after batch from a little before the last one that it is known to have finished."""
    command: list[str | Path] = [sys.executable, "-c", OWNER, Path(__file__).parents[4], directory, str(acked)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_kills_at_random_moments_leave_every_scrape_between_two_batches(tmp_path: Path) -> None:
    chance = random.Random(7)
    exposition = Exposition(tmp_path)
    acked = seen = 0
    for _ in range(5):
        with owner(tmp_path, acked) as process:
            assert process.stdout
            until = acked + chance.randrange(50, 400)
            while acked < until:
                acked = int.from_bytes(process.stdout.read(8))
                now = batches(exposition.collect())
                assert max(seen, acked) <= now
                assert not exposition.skipped
                seen = now
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()
            acked = int.from_bytes(rest[-8:]) if rest else acked
        seen = batches(exposition.collect())
        assert acked <= seen <= acked + 1
        assert exposition.text() == Exposition(tmp_path).text()
    with Registry(tmp_path):
        assert acked <= batches(Exposition(tmp_path).collect()) <= acked + 1
