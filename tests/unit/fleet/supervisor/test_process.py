from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from busmon.fleet.supervisor.process import PROVEN_SECONDS, START_SECONDS, FleetProcess, Inheritance

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def inheritance(tmp_path: Path) -> Iterator[Inheritance]:
    """Read what a child inherits: an empty standard input, and a lock."""
    lock = os.open(tmp_path / "lock", os.O_CREAT)
    lifeline = os.open(os.devnull, os.O_RDONLY)
    yield Inheritance({"GREETING": "hello"}, lifeline, lock)
    os.close(lifeline)
    os.close(lock)


@pytest.fixture
def sleeper(inheritance: Inheritance) -> Iterator[FleetProcess]:
    """A child that runs, and says nothing."""
    child = FleetProcess("worker-7", [sys.executable, "-c", "import signal; signal.pause()"])
    child.start(inheritance)
    yield child
    child.end(10)


def test_a_child_inherits_environment_lock_and_standard_input_alone(inheritance: Inheritance) -> None:
    program = (
        "import os, sys; "
        f"os.fstat({inheritance.lock}); "
        "same = os.path.samestat(os.fstat(0), os.stat(os.devnull)); "
        "sys.exit(40 + (os.environ['GREETING'] == 'hello') + 2 * same)"
    )
    child = FleetProcess("worker-0", [sys.executable, "-c", program])
    child.start(inheritance)
    assert child.pid
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.reap() == 43


def test_an_ended_process_is_reaped_once_and_leaves_its_place_free(inheritance: Inheritance) -> None:
    child = FleetProcess("worker-0", [sys.executable, "-c", "import sys; sys.exit(5)"])
    child.start(inheritance)
    assert child.pid
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert [child.reap(), child.reap(), child.pid] == [5, None, None]


def test_a_process_that_beats_never_hangs(sleeper: FleetProcess) -> None:
    for beat in range(100):
        sleeper.listen(float(beat), 1.0)
        assert not sleeper.hangs(3.0)


def test_a_process_that_has_stopped_beating_hangs_after_the_timeout(sleeper: FleetProcess) -> None:
    sleeper.listen(1000.0, 1.0)
    answers = []
    for _ in range(4):
        sleeper.listen(1000.0, 1.0)
        answers.append(sleeper.hangs(3.0))
    assert answers == [False, False, False, True]


def test_a_clock_that_is_set_back_is_no_silence(sleeper: FleetProcess) -> None:
    sleeper.listen(1000.0, 1.0)
    sleeper.listen(10.0, 60.0)
    assert not sleeper.hangs(3.0)


def test_a_new_process_has_time_to_start(sleeper: FleetProcess) -> None:
    sleeper.listen(None, START_SECONDS)
    assert not sleeper.hangs(3.0)
    sleeper.listen(None, 0.1)
    assert sleeper.hangs(3.0)
    assert not sleeper.hangs(2 * START_SECONDS)


def test_an_empty_place_neither_hangs_nor_hears() -> None:
    child = FleetProcess("worker-0", ["never started"])
    child.listen(None, 3600.0)
    child.tell(signal.SIGTERM)
    assert not child.hangs(3.0)
    assert child.end(0.0)


def test_waits_grow_to_ten_seconds_and_begin_anew_after_a_life(inheritance: Inheritance) -> None:
    child = FleetProcess("worker-0", ["/nonexistent/busmon"])
    for _ in range(10):
        with pytest.raises(FileNotFoundError):
            child.start(inheritance)
    assert 9 < child.due - time.monotonic() <= 10.1
    child._started = time.monotonic() - PROVEN_SECONDS
    child._schedule()
    assert child.due - time.monotonic() <= 0.2


def test_what_a_child_is_called_in_the_count_of_restarts() -> None:
    assert (FleetProcess("worker-12", []).key, FleetProcess("exporter", []).key) == ("12", "exporter")
