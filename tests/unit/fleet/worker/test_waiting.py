"""Envelopes wait while there are some and none is committed."""

from busmon.fleet.worker.waiting import Waiting


def test_the_wait_begins_with_the_first_envelope_and_with_each_commit() -> None:
    waiting = Waiting(allowed_seconds=0.5)
    assert waiting.note(0, None, 100.0) == 0
    assert waiting.note(3, None, 101.0) == 0
    assert waiting.note(5, None, 111.0) == 9.5
    assert waiting.note(5, 1.0, 112.0) == 0
    assert waiting.note(5, 1.0, 122.0) == 9.5
    assert waiting.note(0, 1.0, 123.0) == 0
    assert waiting.note(1, 1.0, 124.0) == 0


def test_a_shard_that_had_nothing_for_long_does_not_begin_with_a_long_wait() -> None:
    waiting = Waiting(allowed_seconds=0.25)
    assert waiting.note(0, 1.0, 100.0) == 0
    assert waiting.note(1, 1.0, 5000.0) == 0


def test_an_unknown_depth_is_no_wait_and_the_next_begins_anew() -> None:
    waiting = Waiting(allowed_seconds=0.0)
    assert waiting.note(1, None, 100.0) == 0
    assert waiting.note(None, None, 101.0) is None
    assert waiting.note(1, None, 150.0) == 0
    assert waiting.note(1, None, 151.0) == 1


def test_a_clock_that_is_set_makes_no_wait() -> None:
    waiting = Waiting(allowed_seconds=0.0)
    assert waiting.note(1, 5000.0, 100.0) == 0
    assert waiting.note(1, 4000.0, 101.0) == 0
    assert waiting.note(1, 4000.0, 102.0) == 1
