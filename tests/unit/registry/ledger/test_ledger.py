"""The ledger against a model that keeps every id, and its bounds."""

import tracemalloc
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.ledger import ledger as ledgers
from busmon.registry.ledger.ledger import Ledger
from busmon.registry.ledger.source_record import Gap, SourceRecord, Verdict
from tests.unit.registry.registries import NOW

NEW, DUPLICATE, UNVERIFIABLE, UNIDENTIFIED = (
    Verdict.NEW,
    Verdict.DUPLICATE,
    Verdict.UNVERIFIABLE,
    Verdict.UNIDENTIFIED,
)

sources = st.sampled_from(["a", "b:1", "b"])
sequences = st.integers(1, 30).map(str)
odd = st.sampled_from(["0", "01", "-1", "x", "", "1e3", "1" * 19, "٣"])
messages = st.tuples(st.just("deliver"), sources, sources, sequences | odd)
steps = st.lists(messages | st.sampled_from([("commit",), ("rollback",), ("reload",)]), max_size=80)


class Model:
    """Every id ever counted, and of which sources there was a sequence."""

    def __init__(self) -> None:
        self.counted: set[tuple[str, str]] = set()
        self.known: set[str] = set()
        self.opened: set[tuple[str, str]] = set()
        self.opened_known: set[str] = set()

    def admit(self, source: str, message_id: str) -> Verdict:
        if (source, message_id) in self.counted | self.opened:
            return DUPLICATE
        self.opened.add((source, message_id))
        prefix, _, digits = message_id.rpartition(":")
        number = int(digits) if prefix == source and digits.isascii() and digits.isdecimal() else 0
        if not (0 < len(digits) < 19 and str(number) == digits and number):
            return NEW
        is_known = source in self.known | self.opened_known
        self.opened_known.add(source)
        return NEW if is_known or number == 1 else UNVERIFIABLE

    def commit(self) -> None:
        self.counted |= self.opened
        self.known |= self.opened_known
        self.rollback()

    def rollback(self) -> None:
        self.opened, self.opened_known = set(), set()


def reloaded(ledger: Ledger) -> Ledger:
    """Open the ledger's snapshot again, by way of the journal's JSON."""
    loaded = Ledger()
    loaded.load(through_json(ledger.dump()))
    return loaded


def through_json(dumped: dict[str, Any]) -> Any:
    return orjson.loads(orjson.dumps(dumped, default=tuple))


@settings(max_examples=100, deadline=None)
@given(steps)
def test_every_id_is_counted_once_in_any_order(taken: list[tuple[str, ...]]) -> None:
    ledger, model = Ledger(), Model()
    for step in taken:
        match step:
            case ("deliver", source, prefix, digits):
                message_id = f"{prefix}:{digits}"
                assert ledger.admit(source, message_id, NOW) is model.admit(source, message_id)
            case ("commit",):
                ledger.commit()
                model.commit()
            case ("rollback",):
                ledger.rollback()
                model.rollback()
            case ("reload",):
                ledger.commit()
                model.commit()
                ledger = reloaded(ledger)


@settings(max_examples=100, deadline=None)
@given(steps)
def test_the_records_of_all_commits_make_the_same_ledger(taken: list[tuple[str, ...]]) -> None:
    ledger, follower = Ledger(), Ledger()
    for step in taken:
        if step[0] == "deliver":
            ledger.admit(step[1], f"{step[2]}:{step[3]}", NOW)
        elif step[0] == "rollback":
            ledger.rollback()
        else:
            record = through_json(ledger.dump(ledger.open))
            ledger.commit()
            follower.load(record)
            assert list(follower.sources.items()) == list(ledger.sources.items())
            assert list(follower.ring) == list(ledger.ring)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 200), max_size=150))
def test_too_many_gaps_cost_certainty_and_never_a_wrong_verdict(order: list[int]) -> None:
    ledger, counted = Ledger(), set[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledgers, "MAX_GAPS", 3)
        for sequence in order:
            floor = ledger.sources["a"].floor if "a" in ledger.sources else None
            verdict = ledger.admit("a", f"a:{sequence}", NOW)
            ledger.commit()
            if verdict is UNVERIFIABLE:
                assert (sequence > 1) if floor is None else (sequence <= floor)
            else:
                assert verdict is (DUPLICATE if sequence in counted else NEW)
            counted.add(sequence)
            assert len(ledger.sources["a"].gaps) <= 3


def test_a_source_first_seen_in_the_middle_is_counted_and_said_to_be_unverifiable() -> None:
    ledger = Ledger()
    assert ledger.admit("a", "a:7", NOW) is UNVERIFIABLE
    assert ledger.admit("a", "a:7", NOW) is DUPLICATE
    assert ledger.admit("a", "a:8", NOW) is NEW
    assert ledger.admit("b", "b:1", NOW) is NEW


def test_what_a_source_sent_before_it_was_first_seen_counts_once_when_it_comes_late() -> None:
    ledger = Ledger()
    assert ledger.admit("a", "a:7", NOW) is UNVERIFIABLE
    assert [ledger.admit("a", f"a:{sequence}", NOW) for sequence in range(1, 7)] == [NEW] * 6
    assert [ledger.admit("a", f"a:{sequence}", NOW) for sequence in range(1, 8)] == [DUPLICATE] * 7


def test_an_envelope_without_an_id_is_always_counted_and_keeps_its_source_present() -> None:
    ledger = Ledger()
    assert [ledger.admit("a", None, NOW) for _ in range(2)] == [UNIDENTIFIED, UNIDENTIFIED]
    assert ledger.admit("a", "a:1", NOW) is NEW
    ledger.admit("a", None, NOW + 5)
    ledger.commit()
    assert ledger.sources["a"] == SourceRecord(high=1, heard_at=NOW + 5)
    assert ledger.find_heard_at("a") == NOW + 5
    assert ledger.find_heard_at("b") == 0


def test_another_sources_sequence_is_an_id_like_any_other() -> None:
    ledger = Ledger()
    assert ledger.admit("a", "b:1", NOW) is NEW
    assert ledger.admit("b", "b:1", NOW) is NEW
    assert ledger.admit("a", "b:1", NOW) is DUPLICATE


def test_an_id_that_two_sources_use_names_an_envelope_of_each() -> None:
    ledger = Ledger()
    assert ledger.admit("a", "1", NOW) is NEW
    assert ledger.admit("b", "1", NOW) is NEW
    assert ledger.admit("a", "1", NOW) is DUPLICATE


def test_an_empty_id_is_none() -> None:
    ledger = Ledger()
    assert [ledger.admit("a", "", NOW) for _ in range(2)] == [UNIDENTIFIED, UNIDENTIFIED]


def test_the_rings_span_is_the_age_of_its_oldest_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "RING_SIZE", 2)
    ledger = Ledger()
    assert ledger.ring_span(NOW) == 0
    for second in range(3):
        ledger.admit("a", f"id-{second}", NOW + second)
        ledger.commit()
    assert ledger.ring_span(NOW + 10) == reloaded(ledger).ring_span(NOW + 10) == 9
    assert ledger.ring_span(NOW - 10) == 0


def test_other_ids_are_known_until_a_ringful_of_newer_ones_was_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "RING_SIZE", 10)
    ledger = Ledger()
    for number in range(10):
        assert ledger.admit("a", f"id-{number}", NOW) is NEW
    ledger.commit()
    assert ledger.admit("a", "id-0", NOW) is DUPLICATE
    assert ledger.admit("a", "id-10", NOW) is NEW
    ledger.commit()
    assert len(ledger.ring) == 10
    assert ledger.admit("a", "id-1", NOW) is DUPLICATE
    assert ledger.admit("a", "id-0", NOW) is NEW


def test_the_source_unheard_for_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 3)
    ledger = Ledger()
    for source in ("a", "b", "c", "a", "d"):
        ledger.admit(source, None, NOW)
        ledger.commit()
    assert {*ledger.sources} == {"c", "a", "d"}
    assert list(reloaded(ledger).sources) == ["c", "a", "d"]


def test_silent_sources_are_forgotten_and_named() -> None:
    ledger = Ledger()
    for second, source in enumerate(("a", "b", "a", "c")):
        ledger.admit(source, None, NOW + second)
        ledger.commit()
    assert ledger.forget(NOW + 2) == ["b"]
    assert list(ledger.sources) == ["a", "c"]
    assert ledger.forget(NOW + 100) == ["a", "c"]


def test_a_duplicate_is_no_sign_of_life() -> None:
    ledger = Ledger()
    ledger.admit("a", "a:1", NOW)
    ledger.admit("a", "a:1", NOW + 5)
    assert ledger.find_heard_at("a") == NOW


def test_sequences_however_far_apart_cost_no_memory() -> None:
    ledger = Ledger()
    ledger.admit("a", "a:1", NOW)
    tracemalloc.start()
    try:
        _admit_far_apart(ledger, range(1, 5_000))
        before, _ = tracemalloc.get_traced_memory()
        _admit_far_apart(ledger, range(5_000, 15_000))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ledger.sources["a"].gaps) == ledgers.MAX_GAPS
    assert ledger.sources["a"].gaps[-1] == Gap(14_998 * 10**12 + 1, 14_999 * 10**12 - 1)
    assert after - before < 20_000


def _admit_far_apart(ledger: Ledger, numbers: Iterable[int]) -> None:
    for number in numbers:
        ledger.admit("a", f"a:{number * 10**12}", NOW)
        ledger.commit()
