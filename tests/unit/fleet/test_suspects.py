"""A body that kills is found out by a trial that its worker survives; one that stood by is acquitted."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from busmon.fleet import suspects as module
from busmon.fleet.suspects import Suspects, identity, survives

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

WHO = identity("s:1", b"")


@pytest.fixture
def suspects(tmp_path: Path) -> Suspects:
    return Suspects(tmp_path, 0)


def reopened(suspects: Suspects, directory: Path) -> Suspects:
    """What the next worker knows."""
    suspects.close()
    return Suspects(directory, 0)


def test_a_note_that_stands_at_the_end_of_its_worker_blames_the_body(suspects: Suspects, tmp_path: Path) -> None:
    suspects.note(WHO)
    suspects = reopened(suspects, tmp_path)
    assert list(suspects.blamed) == [WHO]
    assert list(reopened(suspects, tmp_path).blamed) == [WHO]


def test_a_note_that_is_taken_out_blames_nobody(suspects: Suspects, tmp_path: Path) -> None:
    suspects.note(WHO)
    suspects.clear()
    assert reopened(suspects, tmp_path).blamed == {}


def test_only_the_last_note_blames(suspects: Suspects, tmp_path: Path) -> None:
    suspects.note(WHO)
    other = identity("s:2", b"")
    suspects.note(other)
    assert list(reopened(suspects, tmp_path).blamed) == [other]


def test_who_is_acquitted_is_blamed_no_more_until_the_next_death(suspects: Suspects, tmp_path: Path) -> None:
    for _ in range(3):
        suspects.note(WHO)
        suspects = reopened(suspects, tmp_path)
        assert list(suspects.blamed) == [WHO]
        suspects.acquit(WHO)
        suspects = reopened(suspects, tmp_path)
        assert suspects.blamed == {}


def test_shards_have_notes_of_their_own(suspects: Suspects, tmp_path: Path) -> None:
    other = Suspects(tmp_path, 1)
    other.note(WHO)
    assert reopened(suspects, tmp_path).blamed == {}
    other.close()


def test_the_list_of_the_blamed_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BLAMED", 3)
    for number in range(6):
        suspects = Suspects(tmp_path, 0)
        assert len(suspects.blamed) <= 3 + 1  # the newest is yet to push one out
        suspects.note(identity(f"s:{number}", b""))
        suspects.close()
    assert list(Suspects(tmp_path, 0).blamed)[-1] == identity("s:5", b"")


def test_a_torn_note_blames_nobody_who_comes(tmp_path: Path) -> None:
    (tmp_path / "shard0.suspect").write_bytes(b"\xff\x00\xfe")
    suspects = Suspects(tmp_path, 0)
    assert WHO not in suspects.blamed
    suspects.close()


def test_a_body_is_known_by_its_id_or_else_by_itself() -> None:
    assert identity("s:1", b"one") == identity("s:1", b"other")
    assert identity(None, b"one") == identity(None, b"one") != identity(None, b"other")
    assert identity("", b"one") == identity(None, b"one")


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    raise SystemExit(0)


def recurse() -> None:
    raise RecursionError


def loop_for_ever() -> None:
    while True:
        pass


@pytest.mark.parametrize("ordeal", [kill_itself, leave, recurse, loop_for_ever])
def test_whoever_kills_the_child_is_found_guilty(ordeal: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIAL_SECONDS", 1)
    began = time.monotonic()
    assert not survives(ordeal, lambda: None)
    assert time.monotonic() - began < 60


def test_who_takes_too_much_memory_is_found_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIAL_BYTES", 1 << 26)
    assert survives(lambda: bytearray(1 << 20), lambda: None)
    assert not survives(lambda: bytearray(1 << 28), lambda: None)


def test_who_harms_nobody_survives() -> None:
    assert survives(lambda: None, lambda: None)


def test_a_trial_changes_nothing_here_and_leaves_no_process() -> None:
    seen: list[int] = []
    before = os.sysconf("SC_OPEN_MAX"), signal.getsignal(signal.SIGTERM), os.getpid()
    assert survives(lambda: seen.append(1), lambda: seen.append(2))
    assert seen == []
    assert before == (os.sysconf("SC_OPEN_MAX"), signal.getsignal(signal.SIGTERM), os.getpid())
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_the_child_lets_go_before_its_ordeal() -> None:
    released: list[str] = []

    def ordeal() -> None:
        assert released == ["lock"]

    assert survives(ordeal, lambda: released.append("lock"))
    assert not survives(ordeal, lambda: None)


def test_a_workers_signals_end_the_child_as_they_would_any_process() -> None:
    """The worker's own ways with signals are for the worker: the child has no loop to hear them."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert not survives(lambda: os.kill(os.getpid(), signal.SIGTERM), lambda: None)
    finally:
        signal.signal(signal.SIGTERM, before)
