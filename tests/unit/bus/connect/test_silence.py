"""A question to the broker may stay unanswered for a while."""

from busmon.bus.connect.silence import Silence


def test_silence_adds_up_only_while_a_question_is_open() -> None:
    silence = Silence()
    assert silence.add(1.0) == 0.0
    silence.ask()
    assert [silence.add(1.0), silence.add(1.5)] == [1.0, 2.5]
    silence.start_over()
    assert silence.add(1.0) == 1.0
    silence.end()
    assert silence.add(1.0) == 0.0


def test_a_loop_that_did_not_turn_has_not_listened() -> None:
    silence = Silence()
    silence.ask()
    assert silence.add(600.0) == 2.0


def test_the_broker_may_be_silent_for_ten_seconds() -> None:
    silence = Silence()
    silence.ask()
    are_too_long = []
    for _ in range(6):
        silence.add(2.0)
        are_too_long.append(silence.is_too_long)
    assert are_too_long == [False, False, False, False, True, True]
