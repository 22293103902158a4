"""Budgets that the shards share hold at any moment, whatever arrives at once, is undone, or is killed."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from busmon.registry.admission.budgets import UNBOUNDED, Budgets
from busmon.registry.admission.census import BYTES_FILE, Census
from busmon.registry.admission.places import Places
from tests.unit.registry.crashes import each_line
from tests.unit.registry.registries import NOW, Registry, catalogue

SHARDS = 4
CATALOGUE = """
[counter.hits_total]
help = "Hits"
labels = ["page"]
[summary.size_bytes]
help = "Size"
labels = ["kind"]
"""
BUCKETS = {str(float(number)): 1 for number in range(64)} | {"+Inf": 0}
ROOM = 100_000


def wide(shard: int, number: int) -> dict[str, Any]:
    """A series of an adopted histogram, of some 20 kB."""
    labels = {"k": f"{shard}-{number}".ljust(200, "x")}
    return {"name": f"wide_{number % 2}", "type": "histogram", "labels": labels, "buckets": BUCKETS, "sum": 1}


def page(shard: int, number: int) -> dict[str, Any]:
    """A series of a catalogue's counter, of some 1 kB."""
    return {"name": "hits_total", "labels": {"page": f"{shard}-{number}".ljust(900, "x")}, "value": 1}


def bins(shard: int, number: int) -> dict[str, Any]:
    """Bins of one series of a catalogue's summary, some 1 kB each."""
    values = [1.1 ** (2 * number), 1.1 ** (2 * number + 1)]
    return {"name": "size_bytes", "labels": {"kind": f"{shard}".ljust(900, "x")}, "values": values}


@contextmanager
def shards(directory: Path, budgets: Budgets, count: int = SHARDS) -> Iterator[list[Registry]]:
    """Shards that share a directory, as one worker or several have them."""
    known = catalogue(directory, CATALOGUE)
    with ExitStack() as stack:
        yield [
            stack.enter_context(Registry(directory, shard, catalogue=known, budgets=budgets)) for shard in range(count)
        ]


def taken(registries: list[Registry]) -> int:
    """The bytes of all publishers' series, open batches included."""
    groups = [group for registry in registries for group in registry.shard.fold.groups.values()]
    return sum(group.size for group in groups if not group.family.internal)


def series(registries: list[Registry]) -> int:
    groups = [group for registry in registries for group in registry.shard.fold.groups.values()]
    return sum(len(group.cells) for group in groups if not group.family.internal)


BUDGETS_OF_BYTES = [
    ({"adopted_bytes": ROOM}, wide, 25_000),
    ({"bytes": ROOM}, wide, 25_000),
    ({"bytes": ROOM}, page, 2_000),
    ({"bytes_per_family": ROOM}, page, 2_000),
    ({"bytes_per_family": ROOM}, bins, 2_500),
    ({"bytes": ROOM}, bins, 2_500),
]
IDS = ["adopted", "all, adopted", "all", "family", "family, bins", "all, bins"]


@pytest.mark.parametrize(("limits", "make", "most_left"), BUDGETS_OF_BYTES, ids=IDS)
def test_bodies_that_arrive_at_once_take_a_budget_of_bytes_once(
    limits: Mapping[str, Any], make: Any, most_left: int, tmp_path: Path
) -> None:
    with shards(tmp_path, replace(UNBOUNDED, **limits)) as registries:
        for number in range(120):
            for shard, registry in enumerate(registries):
                registry.fold(make(shard, number))
                assert taken(registries) <= ROOM
        assert taken(registries) > ROOM - most_left
        for registry in registries:
            registry.commit()
        assert ROOM - most_left < taken(registries) <= ROOM


@pytest.mark.parametrize("limits", [{"series_per_family": 30}, {"series": 30}], ids=["family", "all"])
def test_bodies_that_arrive_at_once_take_a_budget_of_series_once(limits: Mapping[str, Any], tmp_path: Path) -> None:
    with shards(tmp_path, replace(UNBOUNDED, **limits)) as registries:
        for number in range(30):
            for shard, registry in enumerate(registries):
                registry.fold(page(shard, number))
        assert series(registries) == 30
        registries[0].shard.rollback()
        assert series(registries) < 30
        registries[1].fold(*(page(9, number) for number in range(30)))
        assert series(registries) == 30


@pytest.mark.parametrize(("limits", "make", "most_left"), BUDGETS_OF_BYTES, ids=IDS)
def test_what_is_undone_is_other_shards_at_once(
    limits: Mapping[str, Any], make: Any, most_left: int, tmp_path: Path
) -> None:
    with shards(tmp_path, replace(UNBOUNDED, **limits), count=2) as (first, second):
        for _ in range(3):
            first.fold(*(make(0, number) for number in range(120)))
            assert taken([first]) > ROOM - most_left
            second.fold(make(1, 0), make(1, 1))
            assert taken([first, second]) <= ROOM
            first.shard.rollback()
            second.shard.rollback()
            assert taken([first, second]) == 0
            second.fold(*(make(2, number) for number in range(120)))
            assert ROOM - most_left < taken([second]) <= ROOM
            second.shard.rollback()


def fail(*_: Any, **__: Any) -> None:
    raise OSError("full")


def test_what_a_commit_has_left_in_the_files_goes_on_counting_when_it_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shards(tmp_path, replace(UNBOUNDED, adopted_bytes=ROOM), count=2) as (first, second):
        first.fold(wide(0, 0))
        with monkeypatch.context() as patch:
            patch.setattr(first.shard._files.journal, "commit", fail)
            with pytest.raises(OSError, match="full"):
                first.commit()
        first.shard.rollback()
        second.fold(*(wide(1, number) for number in range(20)))
        assert 0 < taken([first]) < ROOM - taken([second]) + 25_000
        assert taken([first, second]) <= ROOM


@pytest.mark.parametrize(("limits", "make"), [({"bytes": ROOM}, page), ({"bytes": ROOM}, bins), ({"series": 30}, page)])
def test_budgets_of_all_families_hold_on_a_full_disk(
    limits: Mapping[str, Any], make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shards(tmp_path, replace(UNBOUNDED, **limits), count=2) as registries:
        with monkeypatch.context() as patch:
            patch.setattr(Places, "_append", fail)
            for number in range(120):
                for shard, registry in enumerate(registries):
                    registry.fold(make(shard, number))
            assert taken(registries) <= ROOM
            assert series(registries) <= limits.get("series", 1_000)
        for registry in registries:
            registry.commit()
            registry.fold(*(make(9, number) for number in range(120)))
        assert taken(registries) <= ROOM
        assert series(registries) <= limits.get("series", 1_000)


def test_a_budget_is_kept_at_every_line_and_the_table_is_never_behind_the_shards(tmp_path: Path) -> None:
    looks = 0
    with shards(tmp_path, replace(UNBOUNDED, adopted_bytes=ROOM), count=2) as registries:
        table = Census(tmp_path, BYTES_FILE, totals=2)

        def look(_line: str) -> None:
            nonlocal looks
            looks += 1
            assert taken(registries) <= table.total(1) <= ROOM

        with each_line(look):
            for step in range(6):
                for shard, registry in enumerate(registries):
                    registry.fold(wide(shard, step))
                    if step % 2:
                        registry.commit()
                    elif step % 4:
                        registry.shard.rollback()
        table.close()
    assert looks > 1_000


# -- processes --------------------------------------------------------------------------------------------------------

PROCESS = """
import sys
from dataclasses import replace
from pathlib import Path
from busmon.registry.admission.budgets import UNBOUNDED
from tests.unit.registry.registries import Registry
from tests.unit.registry.admission.test_budgets_at_once import ROOM, SHARDS, wide
shard = int(sys.argv[2])
with Registry(Path(sys.argv[1]), shard, budgets=replace(UNBOUNDED, adopted_bytes=20 * ROOM)) as registry:
    print("open", flush=True)
    sys.stdin.readline()
    for number in range(60):
        registry.fold(*(wide(shard, 10 * number + more) for more in range(5)))
        if number % 10 == 9 and sys.argv[3] == "commits":
            registry.commit()
    print("folded", flush=True)
    sys.stdin.readline()
    registry.commit()
"""


class Folding:
    """A process that owns a shard, and folds more wide series than there is room for."""

    def __init__(self, directory: Path, shard: int, how: str) -> None:
        command = [sys.executable, "-c", PROCESS, str(directory), str(shard), how]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.expect("open")

    def expect(self, said: str) -> None:
        assert self.process.stdout
        assert self.process.stdout.readline() == f"{said}\n"

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def end(self) -> None:
        assert self.process.wait() == 0
        self._close()

    def _close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.mark.parametrize("how", ["commits", "commits once"])
def test_shards_of_several_processes_take_a_budget_once_and_a_dead_one_gives_back_what_it_did_not_commit(
    how: str, tmp_path: Path
) -> None:
    room = 20 * ROOM
    processes = [Folding(tmp_path, shard, how) for shard in range(SHARDS)]
    for process in processes:
        process.go_on()
    for process in processes:
        process.expect("folded")
    dead, *others = processes
    dead.kill()
    for process in others:
        process.go_on()
        process.end()
    with shards(tmp_path, replace(UNBOUNDED, adopted_bytes=room)) as registries:
        assert taken(registries) <= room
        if how == "commits once":
            assert taken([registries[0]]) == 0
        registries[0].fold(*(wide(9, number) for number in range(200)))
        registries[0].commit(NOW)
        assert room - 25_000 < taken(registries) <= room
