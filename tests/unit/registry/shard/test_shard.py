"""A shard has one owner; a commit happens or doesn't; who takes over goes on where the last owner stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from busmon.errors import RegistryError, ShardOwnedError
from busmon.registry.admission.families import Families
from busmon.registry.ledger.source_record import Verdict
from busmon.registry.shard.recover import recover
from busmon.registry.shard.shard import Shard
from busmon.registry.shard.state import ShardState
from busmon.registry.storage.journal import Journal
from tests.unit.registry.registries import CATALOGUE, NOW, Registry, parsed, scrape, series

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}
VOTED = 'votes_cast_total{type="upvote"} '
QUEUE = {"name": "queue_size", "labels": {"queue": "q"}, "value": 1}
AGENTS = {"name": "active_agents", "labels": {"type": "planner"}, "value": 2}

OWNER = """
import signal, sys
from pathlib import Path
from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.shard.shard import Shard
from busmon.registry.shard.state import ShardState
from busmon.registry.storage.journal import Journal
directory = Path(sys.argv[1])
shard = Shard.open(directory, 0, Families(directory, Catalogue.load(), 0))
print("open", flush=True)
signal.pause()
"""


class PowerCutError(Exception):
    """The end of everything at once."""


# -- one owner ---------------------------------------------------------------------------------------------------------


def test_a_second_owner_is_refused_in_one_line_that_names_the_first(tmp_path: Path) -> None:
    with Registry(tmp_path), pytest.raises(ShardOwnedError) as refusal:
        Registry(tmp_path)
    assert str(refusal.value) == f"shard 0 in {tmp_path} is held by process {os.getpid()}"


def test_shards_of_one_directory_have_an_owner_each(tmp_path: Path) -> None:
    with Registry(tmp_path, 0) as first, Registry(tmp_path, 1) as second:
        for registry in (first, second):
            registry.fold(VOTE)
            registry.commit()
        assert first.text() == VOTED + "2.0\n"


def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"open\n"
        with pytest.raises(ShardOwnedError, match=f"held by process {owner.pid}$"):
            Registry(tmp_path)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    with Registry(tmp_path):
        pass


def test_a_new_owner_waits_for_one_that_is_about_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(tmp_path) as first:
        monkeypatch.setattr(time, "sleep", lambda _: first.shard.detach())  # it ends while the other waits
        second = Shard.open(tmp_path, 0, first.families, wait_seconds=30)
        first.shard._lock = os.open(os.devnull, os.O_RDONLY)
    second.close()


# -- rollback and restart ------------------------------------------------------------------------------------------


def test_what_is_rolled_back_never_happened(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE, QUEUE, AGENTS)
        registry.shard.rollback()
        assert registry.deliver("s-1:1", VOTE) is Verdict.NEW
        registry.commit()
        assert registry.text() == VOTED + "1.0\n"


def test_what_is_not_committed_is_lost_with_its_owner(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
    with Registry(tmp_path) as registry:
        assert registry.deliver("s-1:1", VOTE) is Verdict.NEW
        registry.commit()
    with Registry(tmp_path) as registry:
        assert registry.deliver("s-1:1", VOTE) is Verdict.DUPLICATE
        assert registry.text() == VOTED + "1.0\n"


def test_a_power_cut_before_a_commit_returned_leaves_its_batch_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark reached the disk, and the record, on another page, didn't."""

    def cut(*_: object) -> None:
        raise PowerCutError

    with Registry(tmp_path, fsync=True) as registry:
        registry.deliver("s-1:1", VOTE)
        registry.commit()
        start = registry.shard._files.journal._marked
        registry.deliver("s-1:2", VOTE)
        monkeypatch.setattr(ShardState, "apply", cut)
        with pytest.raises(RegistryError, match="PowerCutError"):
            registry.commit()
        monkeypatch.undo()
    with (tmp_path / "shard0.journal").open("r+b") as stream:
        stream.seek(start)
        stream.write(bytes(4096))
    with Registry(tmp_path) as registry:
        assert registry.text() == VOTED + "1.0\n"
        assert registry.deliver("s-1:2", VOTE) is Verdict.NEW
        registry.commit()
    with Registry(tmp_path) as registry:
        assert registry.text() == VOTED + "2.0\n"


def test_series_are_found_again_and_not_made_twice(tmp_path: Path) -> None:
    samples: list[dict[str, Any]] = [
        VOTE,
        QUEUE,
        {"name": "task_duration_seconds", "labels": {"agent": 'a"\\\n'}, "value": 0.3},
        {"name": "request_size_bytes", "value": 3},
        {"name": "hits", "type": "counter", "labels": {"b": "1", "a": "é"}, "value": 1},
    ]
    used = set()
    for _ in range(3):
        with Registry(tmp_path) as registry:
            registry.fold(*samples)
            registry.commit()
            used.add(tuple(path.read_bytes()[:4] for path in sorted(tmp_path.glob("*.db"))))
    assert len(used) == 1
    scraped = parsed(scrape(tmp_path))
    assert scraped[series("task_duration_seconds_count", agent='a"\\\n')] == 3
    assert scraped[series("hits_total", a="é", b="1")] == 3


def test_every_marked_commit_of_unowned_shards_is_recovered(tmp_path: Path) -> None:
    for number in range(3):
        with Registry(tmp_path, number) as registry:
            registry.fold(VOTE)
            registry.shard._files.journal.clear = lambda: None  # type: ignore[method-assign]
            registry.commit()
    (tmp_path / "shard0 as it was.journal").write_bytes(b"a copy that somebody made")
    with Registry(tmp_path, 1):
        assert recover(tmp_path) == [0, 2]
        assert recover(tmp_path) == []
    assert scrape(tmp_path) == VOTED + "3.0\n"


# -- gauges of silent sources ---------------------------------------------------------------------------------------


def test_a_silent_sources_gauges_leave_and_come_back_with_it(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver(None, AGENTS, QUEUE, source="a", now=NOW)
        registry.deliver(None, AGENTS | {"value": 5}, source="b", now=NOW + 100)
        registry.commit()
        assert registry.shard.expire(NOW + 50) == 1
        registry.commit()
        assert registry.text() == 'active_agents{type="planner"} 5.0\n'
        registry.deliver(None, AGENTS, source="a", now=NOW + 200)
        registry.commit()
        assert registry.text() == 'active_agents{type="planner"} 7.0\n'
    with Registry(tmp_path) as registry:
        assert registry.shard.expire(NOW + 150) == 1
        registry.commit()
        assert registry.text() == 'active_agents{type="planner"} 2.0\n'
        assert registry.shard.expire(NOW + 150) == 0


def test_a_source_that_speaks_again_in_the_open_batch_is_not_silent(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver(None, AGENTS, source="a", now=NOW)
        registry.commit()
        registry.deliver(None, AGENTS | {"value": 3}, source="a", now=NOW + 100)
        assert registry.shard.expire(NOW + 50) == 0
        registry.commit()
        assert registry.text() == 'active_agents{type="planner"} 3.0\n'


def test_gauges_of_busmons_own_have_no_source_that_falls_silent(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.shard.fold.own.set("busmon_last_envelope_timestamp_seconds", ("planner",), NOW, NOW)
        registry.commit()
        assert registry.shard.expire(NOW + 1e6) == 0


# -- files that aren't what they should be ----------------------------------------------------------------------------


def garble_values(directory: Path) -> None:
    (directory / "counter_shard0.db").write_bytes(b"nonsense")


def garble_header(directory: Path) -> None:
    with (directory / "counter_shard0.db").open("r+b") as stream:
        stream.write(bytes(8))


def garble_key(directory: Path) -> None:
    with (directory / "counter_shard0.db").open("r+b") as stream:
        stream.seek(8)
        stream.write(b"\xff\xff\xff\xff")


def garble_journal(directory: Path) -> None:
    with (directory / "shard0.journal").open("r+b") as stream:
        stream.seek(30)
        stream.write(b"\xff\xff\xff\xff")


def lose_values(directory: Path) -> None:
    (directory / "counter_shard0.db").unlink()


@pytest.mark.parametrize(
    "damage",
    [garble_values, garble_header, garble_key, garble_journal, lose_values],
    ids=lambda damage: damage.__name__,
)
def test_damage_is_named_in_one_line_and_lets_the_lock_go(damage: Callable[[Path], None], tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.commit()
    damage(tmp_path)
    for _ in range(2):
        with pytest.raises(RegistryError) as refusal:
            Registry(tmp_path)
        assert "\n" not in str(refusal.value)


REMEDY = "; restore the registry directory from a backup, or move this shard's files away, which begins its counts at 0"


@pytest.mark.parametrize(
    ("at", "flipped", "fault"),
    [
        (30, 1, "the journal's extents of the value files are damaged"),
        (-40, 1, "the journal's record at byte "),
    ],
    ids=["extents", "record"],
)
def test_a_damaged_journal_is_named_with_the_remedy(at: int, flipped: int, fault: str, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.commit()
    path = tmp_path / "shard0.journal"
    written = len(path.read_bytes().rstrip(b"\0"))
    with path.open("r+b") as stream:
        place = at if at > 0 else written + at
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ flipped]))
    with pytest.raises(RegistryError) as refusal:
        Registry(tmp_path)
    assert str(refusal.value).startswith(f"{path}: {fault}")
    assert str(refusal.value).endswith(REMEDY)


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (b"{}", "KeyError('ledger')"),
        (b"[]", "TypeError("),
        (b"nonsense", "JSONDecodeError("),
        (b'{"ledger": 1, "shares": {}, "values": {}, "at": 1}', "AttributeError("),
    ],
)
def test_a_record_of_another_shape_is_named_with_the_remedy(record: bytes, fault: str, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.commit()
    journal = Journal.open(tmp_path / "shard0.journal", writable=True)
    journal.commit(record, fsync=False)
    journal.close()
    for _ in range(2):
        with pytest.raises(RegistryError) as refusal:
            Registry(tmp_path)
        said = str(refusal.value)
        assert said.startswith(
            f"{tmp_path}/shard0.journal: a record isn't as this version of busmon writes it ({fault}"
        )
        assert said.endswith(REMEDY)


def test_a_removal_of_series_forgets_the_sources_that_were_silent_for_a_day(tmp_path: Path) -> None:
    later = NOW + 24 * 3600 + 1
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
        registry.commit()
        registry.deliver("s-2:1", QUEUE, source="s-2", now=later)
        registry.commit(later)
        assert registry.drop("votes_cast_total", {"type": "upvote"}, later) == 1
        assert [*registry.shard.ledger.sources] == ["s-2"]


def test_a_journal_that_was_taken_away_costs_the_ledger_and_no_count(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
        registry.commit()
    (tmp_path / "shard0.journal").unlink()
    with Registry(tmp_path) as registry:
        assert registry.text() == VOTED + "1.0\n"
        assert registry.deliver("s-1:2", VOTE) is Verdict.UNVERIFIABLE


def test_a_marked_batch_that_cannot_be_applied_ends_its_owner_and_counts_once_at_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
        monkeypatch.setattr(ShardState, "apply", lambda *_: 1 / 0)
        with pytest.raises(RegistryError, match="marked commit"):
            registry.commit()
        monkeypatch.undo()
    with Registry(tmp_path) as registry:
        assert registry.deliver("s-1:1", VOTE) is Verdict.DUPLICATE
        assert scrape(tmp_path) == VOTED + "1.0\n"


def test_opening_reports_each_record_that_it_redoes(tmp_path: Path) -> None:
    """A supervisor that hears of it doesn't replace a worker that takes long to open what a dead one left."""
    with Registry(tmp_path) as registry:
        for number in range(20):
            registry.deliver(f"s-1:{number + 1}", VOTE)
            registry.commit()
    steps: list[int] = []
    families = Families(tmp_path, CATALOGUE, 0)
    Shard.open(tmp_path, 0, families, progress=lambda: steps.append(1)).close()
    assert len(steps) == 20
