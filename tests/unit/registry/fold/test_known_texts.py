"""A body that is cut means what the same body means when it is parsed, or it isn't cut."""

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.fold import known_texts
from busmon.registry.fold.known_texts import KnownTexts
from busmon.registry.series import shares
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import of_document
from tests.unit.registry.registries import NOW, Registry, fresh_directory

TRICKY = ('"value":', '"ts":', "}", "]}", "},{", '","value":1},{"name":"x', "\\", '"', "ä\n", "", "0", "[", "value")
AGENTS = ("planner", "writer", *TRICKY)

COUNTER = {"name": "tasks_processed_total", "labels": {"agent": "planner", "status": "success"}, "value": 1}
GAUGE = {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 4}
HISTOGRAM = {"name": "task_duration_seconds", "labels": {"agent": "planner"}, "value": 0.25}
EACH: tuple[dict[str, Any], ...] = (COUNTER, GAUGE, HISTOGRAM)

numbers = (
    st.integers(-5, 10) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([2**63, 2**64, 1e308])
)
odd = st.sampled_from([None, True, "1", [1], {"a": 1}, "x"])
samples = st.lists(
    st.builds(
        lambda sample, label, value, stated: {
            "name": sample["name"],
            **({"type": stated} if stated else {}),
            "labels": {**sample["labels"], next(iter(sample["labels"])): label},
            "value": value,
        },
        st.sampled_from(EACH),
        st.sampled_from(AGENTS),
        numbers | odd,
        st.sampled_from([None, None, "counter", "gauge"]),
    ),
    min_size=1,
    max_size=6,
)
edits = st.lists(
    st.tuples(
        st.integers(0, 2_000),
        st.integers(0, 3),
        st.sampled_from(
            [b"", b"}", b"{", b"]", b"[", b",", b'"', b":", b"1", b"-", b"e5", b".5", b" ", b"\\", b"\xff"]
        ),
    ),
    max_size=3,
)


@pytest.fixture(autouse=True)
def _cut_short_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_texts, "MIN_BODY_BYTES", 0)


@pytest.fixture(scope="module")
def taught() -> Iterator[Registry]:
    """A shard that has met every series of the examples."""
    with fresh_directory() as directory, Registry(directory) as registry:
        registry.fold(*EACH)
        for agent in AGENTS:
            for sample in EACH:
                labels = {**sample["labels"], next(iter(sample["labels"])): agent}
                registry.fold({**sample, "labels": labels})
        registry.commit()
        yield registry


def body(*said: Any, ts: Any = NOW, spaced: str = "", **stated: Any) -> bytes:
    document = {"v": 1, "source": "s-1", "agent": "tester", **stated, "ts": ts, "samples": said}
    return json.dumps(document, separators=(f",{spaced}", f":{spaced}"), ensure_ascii=False).encode()


def read_often(texts: KnownTexts, content: bytes) -> Envelope | None:
    """Read a body until its texts are known, if they can be."""
    texts._rest = texts._missed = 0
    texts.read(content)
    return texts.read(content)


def require_same(registry: Registry, content: bytes, cut: Envelope) -> None:
    """Require that what was cut is what is parsed, sample by sample, to the type of each number."""
    parsed = of_document(orjson.loads(content))
    assert cut[:3] == parsed[:3]
    assert cut[3:9] == ([], [], False, (), None, "json")
    assert (parsed.tables, parsed.final, parsed.cut) == ([], False, None)
    assert cut.cut is not None
    assert len(parsed.samples) == len(cut.cut.values) == len(cut.cut.places)
    for sample, ((type_, changed, bounds, total), cell), value in zip(
        parsed.samples, cut.cut.places, cut.cut.values, strict=True
    ):
        group = registry.shard.fold.groups[sample["name"]]
        column = group.column
        assert cell == group.cells[tuple(sample["labels"].values())]
        assert (tuple(sample["labels"]), sample.get("type", type_)) == (group.family.labelnames, group.family.type)
        assert changed is (column.shares if type_ == "gauge" else column.increments)
        assert (type_, bounds, total) == (group.family.type, group.family.buckets, group.sum)
        assert (type(value), value) == (type(sample["value"]), sample["value"])


def test_known_samples_are_cut(taught: Registry) -> None:
    content = body(COUNTER, GAUGE, HISTOGRAM, COUNTER)
    cut = read_often(taught.shard.fold.texts, content)
    assert cut is not None
    require_same(taught, content, cut)


@pytest.mark.parametrize("sample", EACH, ids=lambda sample: str(sample["name"]))
@pytest.mark.parametrize("value", [0, 1, 2.5, -0.0, 2**63, 2**70, 1e308])
def test_each_number_is_cut_as_it_is_parsed(taught: Registry, sample: dict[str, Any], value: float) -> None:
    content = body(COUNTER, {**sample, "value": value})
    cut = read_often(taught.shard.fold.texts, content)
    assert cut is not None
    require_same(taught, content, cut)


@given(samples, st.sampled_from([NOW, 5, 0, -1, None, "2025-11-22T08:00:00Z"]), st.sampled_from(["", " "]), edits)
@settings(max_examples=400)
def test_whatever_is_cut_is_what_is_parsed(
    taught: Registry, said: list[Any], ts: Any, spaced: str, changes: list[tuple[int, int, bytes]]
) -> None:
    texts = taught.shard.fold.texts
    content = body(*said, ts=ts)
    spoilt = body(*said, ts=ts, spaced=spaced)
    for place, removed, added in changes:
        at = place % len(spoilt)
        spoilt = spoilt[:at] + added + spoilt[at + removed :]
    for each in (content, spoilt, content):
        if cut := read_often(texts, each):
            require_same(taught, each, cut)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"value":1}', b'"value":1,"value":2}'),
        (b'"value":1}', b'"value":1,"ts":5}'),
        (b'"value":1}', b'"value":}'),
        (b'"value":1}', b'"value":1,2}'),
        (b'"value":1}', b'"value":1]}'),
        (b'"value":1}', b'"value":[1}'),
        (b'"value":1}', b'"value":1}e5'),
        (b'"value":1}', b'"value":01}'),
        (b'"value":1}', b'"value":NaN}'),
        (b'"value":1}', b'"value":1e999}'),
        (b'"value":1}', b'"value":-1}'),
        (b'"value":1}', b'"value":true}'),
        (b'"ts":1763794800.0', b'"ts":0'),
        (b'"ts":1763794800.0', b'"ts":true'),
        (b'"ts":1763794800.0', b'"ts":1763794800.0,"final":true'),
        (b'"ts":1763794800.0', b'"final":true,"ts":1763794800.0'),
        (b'"ts":1763794800.0', b'"samples":[],"ts":1763794800.0'),
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v":1.0'),
        (b"]}", b"]"),
        (b"]}", b'],"final":true}'),
        (b"]}", b"]}}"),
        (b"]}", b",1]}"),
        (b'"samples"', b'"tables":[],"samples"'),
        (b'"samples"', b'"tables"'),
        (b'{"name":"queue_size"', b'{"op":"add","name":"queue_size"'),
        (b'{"name":"queue_size"', b'{"type":"counter","name":"queue_size"'),
        (b'{"name":"queue_size"', b'1,{"name":"queue_size"'),
        (b'"labels":{"queue":"tasks"}', b'"labels":{"queue":"tasks","queue":"tasks"},"ts":1'),
        (b'"labels":{"queue":"tasks"}', b'"labels":{"queue":5}'),
        (b'"labels":{"queue":"tasks"}', b'"labels":[["queue","tasks"]]'),
        (b'"labels":{"queue":"tasks"}', b'"labels":null'),
    ],
    ids=str,
)
def test_a_body_with_anything_else_in_it_is_parsed(taught: Registry, before: bytes, after: bytes) -> None:
    content = body(COUNTER, GAUGE, COUNTER)
    assert read_often(taught.shard.fold.texts, content) is not None
    assert before in content
    assert read_often(taught.shard.fold.texts, content.replace(before, after)) is None


@given(st.lists(samples, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_bodies_count_the_same_cut_or_parsed(bodies: list[list[Any]]) -> None:
    shown = []
    for is_cut in (True, False):
        with fresh_directory() as directory, Registry(directory) as registry:
            fold = registry.shard.fold
            for number, said in enumerate(bodies * 3):
                content = body(*said, ts=NOW - number, source=f"s-{number % 2}")
                fold.envelope((fold.texts.read(content) if is_cut else None) or of_document(orjson.loads(content)), NOW)
                if number % 4 == 0:
                    registry.commit()
            registry.commit()
            shown.append((registry.text(), registry.text("busmon_samples"), registry.rejected()))
    assert shown[0] == shown[1]


def test_series_that_a_rollback_removed_are_not_counted_in_others_places() -> None:
    with fresh_directory() as directory, Registry(directory) as registry:
        fold, content = registry.shard.fold, body(COUNTER, COUNTER)
        fold.envelope(of_document(orjson.loads(content)), NOW)
        assert read_often(fold.texts, content) is not None
        registry.shard.rollback()
        assert fold.texts.read(content) is None
        registry.fold(HISTOGRAM)
        fold.envelope(fold.texts.read(content) or of_document(orjson.loads(content)), NOW)
        registry.commit()
        assert registry.text("tasks_processed_total") == (
            'tasks_processed_total{agent="planner",status="success"} 2.0\n'
        )


def test_a_gauge_without_room_for_another_source_is_rejected_cut_or_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES_OF_AGENT", 2)
    with fresh_directory() as directory, Registry(directory) as registry:
        fold = registry.shard.fold
        for source in ("a", "b", "c"):
            content = body({**GAUGE, "value": ord(source)}, COUNTER, source=source)
            fold.envelope(read_often(fold.texts, content) or of_document(orjson.loads(content)), NOW)
        registry.commit()
        assert registry.rejected() == {"share_budget": 1}
        assert registry.text("tasks_processed_total").endswith(" 3.0\n")


def test_what_is_learned_is_bounded(monkeypatch: pytest.MonkeyPatch, taught: Registry) -> None:
    monkeypatch.setattr(known_texts, "MAX_TEXTS", 10)
    texts = KnownTexts(taught.shard.fold._routes)
    for number in range(100):
        texts._rest = 0
        texts.read(body(COUNTER, GAUGE, source=f"s-{number}"))
        assert len(texts._heads) + len(texts._first) + len(texts._others) <= 12
    long = body(COUNTER, source="s" * 200, agent="a" * 200).replace(b'"v":1', b'"v":1,"x":"%b"' % (b"x" * 600))
    texts.clear()
    assert read_often(texts, long) is None
    assert not texts._heads


def test_nothing_is_cut_for_a_while_where_every_body_is_new(taught: Registry) -> None:
    texts = KnownTexts(taught.shard.fold._routes)
    learned = []
    for number in range(2_000):
        texts.read(body({**COUNTER, "labels": {"agent": f"a-{number}", "status": "x"}}, source=f"s-{number}"))
        learned.append(len(texts._heads))
    assert max(learned) == 768
    assert learned[255] == learned[511] == 256


def test_short_bodies_are_parsed(monkeypatch: pytest.MonkeyPatch, taught: Registry) -> None:
    monkeypatch.setattr(known_texts, "MIN_BODY_BYTES", 1_000)
    few, many = body(*EACH), body(*EACH * 10)
    assert read_often(taught.shard.fold.texts, few) is None
    assert read_often(taught.shard.fold.texts, many) is not None
