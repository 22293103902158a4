"""A failure that repeats is logged when it begins, when it changes, and once in a minute."""

from busmon.bus.connect.causes import Cause, LossCause
from busmon.bus.connect.repeats import Repeats

REFUSED = Cause(LossCause.ACCESS_REFUSED, "access to queue 'q' refused")
MISSING = Cause(LossCause.QUEUE_MISSING, "no queue 'q'")


def test_a_repeat_is_due_once_in_a_minute() -> None:
    now = 0.0
    repeats = Repeats(lambda: now)
    due = []
    for second in range(0, 130, 10):
        now = float(second)
        due.append(repeats.is_due(REFUSED))
    assert due == [second in {0, 60, 120} for second in range(0, 130, 10)]


def test_another_cause_is_due_at_once() -> None:
    repeats = Repeats(lambda: 0.0)
    assert [repeats.is_due(cause) for cause in (REFUSED, MISSING, MISSING, REFUSED)] == [True, True, False, True]


def test_a_failure_after_a_success_is_due_at_once() -> None:
    repeats = Repeats(lambda: 0.0)
    assert repeats.is_due(REFUSED)
    repeats.end()
    assert repeats.is_due(REFUSED)
