"""Texts are learned within bounds, in time that parsing pays for, and only where it is of use."""

import pytest

from busmon.registry.fold import known_texts
from busmon.registry.fold.known_texts import IS_SCANNING, KnownTexts
from tests.unit.registry.fold.known_bodies import (
    COUNTER,
    EACH,
    GAUGE,
    HISTOGRAM,
    LATER,
    LEVELS,
    LISTS,
    body,
    read,
    read_often,
)
from tests.unit.registry.registries import Registry

if IS_SCANNING:
    from busmon.registry.fold import learning

pytestmark = pytest.mark.skipif(not IS_SCANNING, reason="the scanner isn't compiled, or isn't to be used")


@pytest.mark.parametrize(("limit", "most"), [("MAX_TEXTS", 10), ("MAX_STATED", 10), ("MAX_BYTES", 1_000)])
def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch, taught: Registry, limit: str, most: int) -> None:
    monkeypatch.setattr(learning, limit, most)
    texts = KnownTexts(taught.shard.fold._routes)
    learner = texts._learner
    assert learner is not None
    for number in range(100):
        texts._rest = 0
        read(texts, body(COUNTER, GAUGE, source=f"s-{number}"))
        read(texts, body(tables=[{**LATER, "name": f"m-{number}"}]))
    learned = {"MAX_TEXTS": len(learner.scanner), "MAX_BYTES": learner.scanner.text_bytes}
    assert learned.get(limit, max(learner._heads, len(learner._contexts))) < most + 1_000
    assert learner.is_full


def test_a_long_head_is_not_learned(taught: Registry) -> None:
    texts = KnownTexts(taught.shard.fold._routes)
    long = body(COUNTER, source="s" * 200, agent="a" * 200).replace(b'"v":1', b'"v":1,"x":"%b"' % (b"x" * 600))
    assert read_often(texts, long) is None
    assert texts._learner is not None
    assert len(texts._learner.scanner) == 0


def test_texts_that_fill_the_memory_are_forgotten_when_they_are_of_no_use(
    monkeypatch: pytest.MonkeyPatch, taught: Registry
) -> None:
    monkeypatch.setattr(learning, "MAX_STATED", 10)
    monkeypatch.setattr(known_texts, "_FORGET_AFTER", 20)
    texts = KnownTexts(taught.shard.fold._routes)
    for number in range(40):
        texts._missed = texts._rest = 0
        read(texts, body(COUNTER, source=f"s-{number}"))
    assert read(texts, body(COUNTER, source="s-39")) is not None
    assert read(texts, body(COUNTER, source="s-0")) is None


def test_many_texts_are_known_at_once(taught: Registry) -> None:
    texts = KnownTexts(taught.shard.fold._routes)
    contents = [body(COUNTER, GAUGE, HISTOGRAM, source=f"s-{number}") for number in range(5_000)]
    for content in contents:
        assert read_often(texts, content) is not None
    for content in contents:
        scanned = read(texts, content)
        assert scanned is not None
        assert scanned.source.encode() in content


def test_nothing_is_scanned_for_a_while_where_every_body_is_new(taught: Registry) -> None:
    texts = KnownTexts(taught.shard.fold._routes)
    learned = []
    for number in range(2_000):
        read(texts, body({**COUNTER, "labels": {"agent": f"a-{number}", "status": "x"}}, source=f"s-{number}"))
        assert texts._learner is not None
        learned.append(len(texts._learner.scanner))
    assert max(learned) == 768
    assert learned[255] == learned[511] == 256


def test_few_known_texts_are_passed_on_the_way_to_unknown_ones(taught: Registry) -> None:
    texts = KnownTexts(taught.shard.fold._routes)
    known = {**LISTS, "rows": [["a", [1] * 500]]}
    assert read_often(texts, body(tables=[known])) is not None
    assert texts._learner is not None
    scanner = texts._learner.scanner
    had = len(scanner)
    content = body(tables=[known, LEVELS], source="s-2")
    assert read(texts, content) is None
    assert len(scanner) == had + 1
    assert read(texts, content) is None
    assert read(texts, content) is not None


def test_learning_what_is_forgotten_again_takes_no_longer_than_parsing(
    taught: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_texts, "_MOST_CREDIT", 60_000)
    texts, content = KnownTexts(taught.shard.fold._routes), body(*EACH)
    assert texts._learner is not None
    parsed_bytes = learned = 0
    for _ in range(1_000):
        assert read(texts, content) is None
        parsed_bytes += len(content)
        learned += len(texts._learner.scanner)
        texts.clear()
        texts._rest = 0
    assert parsed_bytes / 2 < learned * known_texts._LEARNING_BYTES < parsed_bytes + 60_000
    for _ in range(20):
        read(texts, content)
    assert read(texts, content) is not None


def test_nothing_is_learned_behind_the_end_of_a_body(taught: Registry) -> None:
    texts, content = KnownTexts(taught.shard.fold._routes), body(COUNTER)
    assert read_often(texts, content) is not None
    assert texts._learner is not None
    had = len(texts._learner.scanner)
    for end in (body(COUNTER, GAUGE), body(COUNTER, HISTOGRAM)):
        assert read_often(texts, content + b"5" + end.removeprefix(content[:-3])) is None
    assert len(texts._learner.scanner) == had


def test_some_bodies_are_scanned_where_each_teaches_a_text_that_may_come_again(taught: Registry) -> None:
    texts = KnownTexts(taught.shard.fold._routes)
    assert texts._learner is not None
    content = body(COUNTER, GAUGE, HISTOGRAM)
    tried = 0
    for number in range(10_000):
        had = len(texts._learner.scanner)
        read(texts, content.replace(b'"labels":{"agent"', b'"labels":%b{"agent"' % (b" " * (number % 200))))
        tried += len(texts._learner.scanner) > had
        if number % 200 == 199:
            texts.clear()
    assert 256 < tried <= 3 * 256
