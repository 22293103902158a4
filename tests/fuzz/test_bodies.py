"""The corpus of bodies keeps every promise of the target, and the target itself notices a broken one."""

import random

import pytest

from busmon.wire.envelope import Envelope
from busmon.wire.formats import DECODERS, Delivered, Formats, Origin
from tests.fuzz import corpus
from tests.fuzz.bodies import FaultError, replay
from tests.fuzz.ways import Way

VOTE = b'{"v": 1, "source": "s", "samples": [{"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}]}'


def test_the_corpus_and_the_seeds_are_counted_or_refused_and_every_decoder_is_among_them() -> None:
    inputs = [*corpus.seeds(), *corpus.read()]
    random.Random(1).shuffle(inputs)
    bodies = replay(inputs)
    assert bodies.taken == len(inputs)
    assert {*DECODERS, "json", ""} == {format_ for format_, outcome in bodies.outcomes if outcome == "taken"}


def test_a_body_that_makes_the_decoder_raise_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Formats.decode

    def raise_for_nonsense(self: Formats, delivered: Delivered, origin: Origin) -> Envelope:
        if delivered.body == b"nonsense":
            raise ZeroDivisionError
        return decode(self, delivered, origin)

    monkeypatch.setattr(Formats, "decode", raise_for_nonsense)
    replay([Way().controls() + VOTE])
    with pytest.raises(FaultError, match=r"counting raised ZeroDivisionError\(\)"):
        replay([Way().controls() + VOTE, Way().controls() + b"nonsense"])


def test_an_input_of_the_corpus_reads_as_it_was_written() -> None:
    for data in corpus.seeds():
        assert corpus._of_line(corpus._to_line(data)) == data
