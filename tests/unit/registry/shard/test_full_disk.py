"""A disk that takes no more fails a commit; nothing of it is counted, and once there is room it happens, once."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from busmon.registry.ledger.source_record import Verdict
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.storage import journal, values
from tests.unit.registry.registries import NOW, Registry, counted, scrape, series

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}
VOTES = series("votes_cast_total", type="upvote")
AGENTS = {"name": "active_agents", "labels": {"type": "planner"}, "value": 2}


def no_room(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def rows(number: int) -> dict[str, Any]:
    """A table of so many series; a file as it is made has room for a few hundred."""
    return {"name": "hits", "type": "counter", "labels": ["page"], "rows": [[f"{i:0100}", 1] for i in range(number)]}


@pytest.mark.parametrize("needs", ["a new file", "a larger file", "a new journal"])
def test_a_commit_without_room_fails_and_happens_once_when_there_is(
    needs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", 0 if needs == "a new journal" else 1 << 20)
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.commit()
        before = counted(registry.text())
        registry.deliver("s-1:1", VOTE, *([AGENTS] if needs == "a new file" else []))
        registry.fold(tables=[rows(1000)] if needs == "a larger file" else [])
        with monkeypatch.context() as full:
            full.setattr(os, "posix_fallocate", no_room)
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    registry.commit()
                assert counted(registry.text()) == before
        registry.commit()
    with Registry(tmp_path) as registry:
        after = counted(registry.text())
        assert after[VOTES] == 2
        assert after.get(series("active_agents", type="planner")) == (2 if needs == "a new file" else None)
        assert after.get(series("hits_total", page=f"{999:0100}")) == (1 if needs == "a larger file" else None)
        assert registry.deliver("s-1:1", VOTE) is Verdict.DUPLICATE


def test_an_owner_that_dies_on_a_full_disk_counted_nothing_of_its_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
        monkeypatch.setattr(os, "posix_fallocate", no_room)
        with pytest.raises(OSError, match="No space left"):
            registry.commit()
        monkeypatch.undo()
    with Registry(tmp_path) as registry:
        assert registry.deliver("s-1:1", VOTE) is Verdict.NEW
        registry.commit()
        assert counted(registry.text()) == {VOTES: 1}


def test_a_batch_that_is_rolled_back_on_a_full_disk_comes_again_and_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
        with monkeypatch.context() as full:
            full.setattr(os, "posix_fallocate", no_room)
            with pytest.raises(OSError, match="No space left"):
                registry.commit()
        registry.shard.rollback()
        assert registry.deliver("s-1:1", VOTE) is Verdict.NEW
        registry.commit()
        assert counted(registry.text()) == {VOTES: 1}


def test_a_commit_whose_end_cannot_be_written_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(tmp_path) as registry:
        registry.deliver("s-1:1", VOTE)
        monkeypatch.setattr(registry.shard._files.journal, "clear", no_room)
        registry.commit()
        assert registry.deliver("s-1:1", VOTE) is Verdict.DUPLICATE
        registry.commit()
        assert counted(registry.text()) == {VOTES: 1}
    with Registry(tmp_path) as registry:
        assert registry.shard.replayed
        assert counted(registry.text()) == {VOTES: 1}


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.unit.registry.registries import Registry
from tests.unit.registry.shard.test_full_disk import VOTE, rows
with Registry(Path(sys.argv[2])) as registry:
    registry.fold(VOTE)
    registry.commit()
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
    registry.deliver("s-1:1", VOTE, tables=[rows(1000)])
    for _ in range(2):
        try:
            registry.commit()
        except OSError as error:
            print(error.errno)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    registry.commit()
"""


def test_the_kernels_own_limit_fails_the_commit_and_never_the_process(tmp_path: Path) -> None:
    """No page of a mapped file is touched that has no room: that would be SIGBUS."""
    command: list[str | Path] = [sys.executable, "-c", LIMITED, Path(__file__).parents[4], tmp_path]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    refusals = [int(number) for number in ended.stdout.split()]
    assert len(refusals) == 2
    assert {*refusals} <= {errno.EFBIG, errno.ENOSPC}
    assert counted(scrape(tmp_path, "votes")) == {VOTES: 2}
    assert Exposition(tmp_path).collect().value("hits_total") == 1000


def test_files_grow_with_their_series(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for _ in range(2):
            registry.fold(tables=[rows(5000)], now=NOW)
            registry.commit()
    assert (tmp_path / "counter_shard0.db").stat().st_size > values._INITIAL_BYTES
    assert Exposition(tmp_path).collect().value("hits_total") == 10_000
    with Registry(tmp_path) as registry:
        assert len(registry.shard.fold.groups["hits"].cells) == 5000
