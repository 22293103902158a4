"""The recovery of a directory in a process of its own."""

import os
import signal
from pathlib import Path

import pytest

from busmon.errors import RegistryError
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard import recover as recovering
from busmon.registry.shard.recover import recover_in_child
from tests.unit.registry.registries import Registry

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


def test_a_commit_that_was_begun_is_finished(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE)
        registry.shard._files.journal.clear = lambda: None  # type: ignore[method-assign]
        registry.commit()
    assert recover_in_child(tmp_path) == [0]
    assert recover_in_child(tmp_path) == []
    assert Exposition(tmp_path).collect().value("votes_cast_total", type="upvote") == 1


def test_the_recovery_runs_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "recover", lambda _: [os.getpid(), os.getppid()])
    child, parent = recover_in_child(tmp_path)
    assert (child != parent, parent) == (True, os.getpid())


@pytest.mark.parametrize(
    "error", [RegistryError("shard0.journal: is damaged"), PermissionError(13, "Permission denied", "shard0.journal")]
)
def test_an_error_is_the_callers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: Path) -> None:
        raise error

    monkeypatch.setattr(recovering, "recover", fail)
    with pytest.raises(type(error)) as raised:
        recover_in_child(tmp_path)
    assert str(raised.value) == str(error)


def test_a_recovery_that_the_system_kills_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovering, "recover", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(RegistryError, match=r"recovery ended with exit status -9$"):
        recover_in_child(tmp_path)
