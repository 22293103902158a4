"""A body that kills is found out by a trial that its worker survives; one that stood by is acquitted."""

import errno
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from busmon.fleet.worker import suspects as module
from busmon.fleet.worker.suspects import FORGET_SECONDS, Suspects, identity, survives

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

WHO = identity("s:1", b"")


@pytest.fixture
def suspects(tmp_path: Path) -> Suspects:
    return Suspects(tmp_path, 0)


def reopened(suspects: Suspects, directory: Path) -> Suspects:
    """Open the suspects as the next worker does."""
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


def test_what_a_power_cut_tore_blames_nobody(tmp_path: Path) -> None:
    (tmp_path / "shard0.suspect").write_bytes(b"\xff\x00\xfe")
    (tmp_path / "shard0.blamed").write_bytes(f"{WHO} 12".encode() + b"\xff\x00\n")
    assert reopened(Suspects(tmp_path, 0), tmp_path).blamed == {}


def test_a_body_is_known_by_its_id_or_else_by_itself() -> None:
    assert identity("s:1", b"one") == identity("s:1", b"other")
    assert identity(None, b"one") == identity(None, b"one") != identity(None, b"other")
    assert identity("", b"one") == identity(None, b"one")


def test_who_was_found_guilty_is_forgotten_after_a_day(suspects: Suspects, tmp_path: Path) -> None:
    now = time.time()
    suspects.convict("old", now - FORGET_SECONDS)
    suspects.convict("new", now)
    suspects.convict("seen-again", now - 2 * FORGET_SECONDS)
    suspects.convict("seen-again", now)
    suspects.forget(now + 1)
    assert list(suspects.blamed) == ["new", "seen-again"]
    assert list(reopened(suspects, tmp_path).blamed) == ["new", "seen-again"]


def test_who_was_blamed_before_it_was_said_when_is_blamed_since_now(tmp_path: Path) -> None:
    (tmp_path / "shard0.blamed").write_text(f"{WHO}\n")
    suspects = Suspects(tmp_path, 0)
    assert suspects.blamed[WHO] == pytest.approx(time.time(), abs=60)
    suspects.close()


def test_a_note_has_its_bytes_from_the_start(suspects: Suspects, tmp_path: Path) -> None:
    before = (tmp_path / "shard0.suspect").stat()
    suspects.note(WHO)
    after = (tmp_path / "shard0.suspect").stat()
    assert before.st_size == after.st_size == len(WHO)


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
    monkeypatch.setattr(module, "TRIAL_SECONDS", 1)  # of processor time
    began = time.monotonic()
    assert not survives(ordeal, lambda: None)
    assert time.monotonic() - began < 60


def test_who_waits_for_ever_is_found_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANG_SECONDS", 1)
    assert not survives(signal.pause, lambda: None)


def test_a_child_that_somebody_else_kills_is_tried_again(tmp_path: Path) -> None:
    trials = tmp_path / "trials"
    trials.touch()

    def die_at_first() -> None:
        with trials.open("a") as stream:
            stream.write("x")
        if trials.stat().st_size < module.TRIALS:
            kill_itself()

    assert survives(die_at_first, lambda: None)
    assert trials.stat().st_size == module.TRIALS


def refuse(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_body_that_cannot_be_tried_is_not_guilty(monkeypatch: pytest.MonkeyPatch) -> None:
    assert survives(lambda: None, refuse)
    assert survives(refuse, lambda: None)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert survives(lambda: None, lambda: None)


def test_a_trial_is_held_within_limits_that_are_lower_already() -> None:
    child = os.fork()
    if child == 0:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + (1 << 28)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        verdicts = survives(lambda: None, lambda: None), survives(lambda: bytearray(1 << 29), lambda: None)
        os._exit(0 if verdicts == (True, False) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


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
