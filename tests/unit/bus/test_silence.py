"""A question to the broker may stay unanswered for a while, and longer where nothing comes at all."""

from busmon.bus.silence import SILENT_SECONDS, Silence


def test_silence_adds_up_only_while_a_question_is_open() -> None:
    silence = Silence()
    assert silence.add(1.0) == 0.0
    silence.ask(100)
    assert [silence.add(1.0), silence.add(1.5)] == [1.0, 2.5]
    silence.heard()
    assert silence.add(1.0) == 1.0
    silence.end()
    assert silence.add(1.0) == 0.0


def test_a_loop_that_did_not_turn_has_not_listened() -> None:
    silence = Silence()
    silence.ask(100)
    assert silence.add(600.0) == 2.0


def test_a_connection_on_which_nothing_comes_is_given_twice_as_long() -> None:
    silence = Silence()
    silence.ask(100)
    silence.ask(150)  # another question, while the first is open
    assert silence.allowed_seconds(100) == 2 * SILENT_SECONDS
    assert silence.allowed_seconds(150) == SILENT_SECONDS
    silence.end()
    silence.ask(150)
    assert silence.allowed_seconds(150) == 2 * SILENT_SECONDS
