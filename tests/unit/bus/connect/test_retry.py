import pytest
from pika.adapters.select_connection import IOLoop

from busmon.bus.connect import retry
from busmon.bus.connect.retry import STEADY_SECONDS, Retry


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(retry, "monotonic", lambda: now[0])
    monkeypatch.setattr(retry, "reconnect_waits", lambda: iter([1.0, 2.0, 4.0, 8.0]))
    return now


def test_the_action_is_tried_again_after_the_wait(ioloop: IOLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "reconnect_waits", lambda: iter([0.001]))
    pending = Retry(ioloop, ioloop.stop)
    pending.note_failure()
    assert pending.is_pending
    ioloop.start()
    assert not pending.is_pending


@pytest.mark.usefixtures("clock")
def test_each_failure_waits_longer(ioloop: IOLoop) -> None:
    pending = Retry(ioloop, ioloop.stop)
    assert [pending.note_failure() for _ in range(3)] == [1.0, 2.0, 4.0]


def test_a_success_that_lasts_starts_over(ioloop: IOLoop, clock: list[float]) -> None:
    pending = Retry(ioloop, ioloop.stop)
    pending.note_failure()
    pending.note_failure()
    pending.note_success()
    clock[0] += STEADY_SECONDS
    assert pending.note_failure() == 1.0


def test_a_success_that_does_not_last_goes_on_waiting_longer(ioloop: IOLoop, clock: list[float]) -> None:
    pending = Retry(ioloop, ioloop.stop)
    pending.note_failure()
    pending.note_success()
    clock[0] += STEADY_SECONDS / 2
    assert pending.note_failure() == 2.0


@pytest.mark.usefixtures("clock")
def test_a_cancelled_try_does_not_come(ioloop: IOLoop) -> None:
    tries: list[int] = []
    pending = Retry(ioloop, lambda: tries.append(1))
    pending.note_failure()
    pending.cancel()
    assert not pending.is_pending
    ioloop.call_later(0, ioloop.stop)
    ioloop.start()
    assert not tries
