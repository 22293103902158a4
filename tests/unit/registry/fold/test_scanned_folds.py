"""Scanned bodies are folded in their order, in one call, within the bounds that hold for parsed ones."""

import orjson
import pytest

from busmon.registry.fold.known_texts import IS_SCANNING
from busmon.registry.series import shares
from busmon.wire.json_v1 import of_document
from tests.unit.registry.fold.known_bodies import (
    COUNTER,
    FORMS,
    GAUGE,
    HISTOGRAM,
    LATER,
    LEVELS,
    body,
    fold_together,
    read,
    read_often,
)
from tests.unit.registry.registries import NOW, Registry, fresh_directory

pytestmark = pytest.mark.skipif(not IS_SCANNING, reason="the scanner isn't compiled, or isn't to be used")


def test_scanned_bodies_are_folded_without_being_parsed(taught: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [body(COUNTER), body(GAUGE, HISTOGRAM), body(tables=FORMS)]
    scanned = [read_often(taught.shard.fold.texts, content) for content in contents]
    monkeypatch.setattr(taught.shard.fold, "envelope", None)
    fold_together(taught.shard.fold, *filter(None, scanned))
    taught.shard.rollback()


def test_a_scanned_body_is_folded_between_parsed_ones_in_order(taught: Registry) -> None:
    fold, gauge = taught.shard.fold, {**GAUGE, "labels": {"queue": "in order"}}
    fold_together(fold, of_document(orjson.loads(body(gauge))))
    taught.commit()
    scanned = read_often(fold.texts, body({**gauge, "value": 5}, ts=None))
    parsed = [of_document(orjson.loads(body({**gauge, "value": value}, ts=None))) for value in (9, 7)]
    assert scanned is None  # a body without a time has no head
    scanned = read_often(fold.texts, body({**gauge, "value": 5}, ts=NOW + 99))
    assert scanned is not None
    fold.envelopes([parsed[0], scanned, parsed[1]], [NOW + 1, NOW + 2, NOW + 3], [None] * 3)
    taught.commit()
    assert 'queue_size{queue="in order"} 7.0' in taught.text("queue_size")


def test_a_time_of_its_own_ends_with_its_table(taught: Registry) -> None:
    content = body(tables=[LATER, LEVELS, LATER])
    scanned = read_often(taught.shard.fold.texts, content)
    assert scanned is not None
    fold_together(taught.shard.fold, scanned)
    column = taught.shard.fold.groups["queue_size"].column
    said = {(value, at) for _, _, share in column.shares.dump(whole=False) if share for at, value, _ in [share]}
    taught.shard.rollback()
    assert said == {(1.0, NOW), (-3.0, NOW)}


def test_series_that_a_rollback_removed_are_not_counted_in_others_places() -> None:
    with fresh_directory() as directory, Registry(directory) as registry:
        fold, content = registry.shard.fold, body(COUNTER, COUNTER)
        fold_together(fold, of_document(orjson.loads(content)))
        scanned = read_often(fold.texts, content)
        assert scanned is not None
        registry.shard.rollback()
        assert read(fold.texts, content) is None
        registry.fold(HISTOGRAM)
        fold_together(fold, read(fold.texts, content) or of_document(orjson.loads(content)))
        registry.commit()
        assert registry.text("tasks_processed_total") == (
            'tasks_processed_total{agent="planner",status="success"} 2.0\n'
        )


def test_a_gauge_without_room_for_another_source_is_rejected_scanned_or_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES_OF_AGENT", 2)
    with fresh_directory() as directory, Registry(directory) as registry:
        fold = registry.shard.fold
        for source in ("a", "b", "c"):
            content = body({**GAUGE, "value": ord(source)}, COUNTER, source=source)
            fold_together(fold, read_often(fold.texts, content) or of_document(orjson.loads(content)))
        registry.commit()
        assert registry.rejected() == {"share_budget": 1}
        assert registry.text("tasks_processed_total").endswith(" 3.0\n")


def test_each_agent_has_its_own_room_for_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES_OF_AGENT", 3)
    with fresh_directory() as directory, Registry(directory) as registry:
        fold = registry.shard.fold
        said = [("a", "greedy"), ("b", "greedy"), ("c", "greedy"), ("d", "modest"), ("e", "greedy"), ("f", "modest")]
        contents = [body(GAUGE, COUNTER, source=source, agent=agent) for source, agent in said]
        fold_together(fold, of_document(orjson.loads(body(GAUGE, COUNTER, source="a", agent="greedy"))))
        registry.commit()
        scanned = [envelope for content in contents if (envelope := read_often(fold.texts, content))]
        assert len(scanned) == len(contents)
        fold_together(fold, *scanned)
        fold_together(fold, *scanned[::-1])
        registry.commit()
        assert registry.rejected() == {"share_budget": 2}
        assert registry.text("tasks_processed_total").endswith(" 13.0\n")
