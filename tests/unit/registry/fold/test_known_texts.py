"""A body that is scanned means what the same body means when it is parsed, or it isn't scanned."""

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.fold import known_texts
from busmon.registry.fold.known_texts import IS_SCANNING, KnownTexts
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import decode, of_document
from tests.unit.registry.fold.drawn_tables import BOUNDS, state, tables
from tests.unit.registry.fold.known_bodies import (
    AGENTS,
    COUNTER,
    COUNTS,
    EACH,
    FORMS,
    GAUGE,
    HISTOGRAM,
    LEVELS,
    LISTS,
    body,
    fold_together,
    read,
    read_often,
)
from tests.unit.registry.registries import NOW, Registry, fresh_directory

if IS_SCANNING:
    from busmon.registry.fold import learning
    from busmon.registry.fold.scanning import MAX_BODY_BYTES

pytestmark = pytest.mark.skipif(not IS_SCANNING, reason="the scanner isn't compiled, or isn't to be used")


numbers = (
    st.integers(-5, 10)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.decimals(-1000, 1000, places=3).map(float)
    | st.sampled_from([2**53 + 1, 2**63, 2**64, 10**15, 10**15 - 1, 1e308, 5e-324, -0.0, 1e22, 1e23, 123456.7891234567])
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
INSERTED = (
    b"",
    b"}",
    b"{",
    b"]",
    b"[",
    b",",
    b'"',
    b":",
    b"1",
    b"-",
    b"e5",
    b"e0",
    b".5",
    b".0",
    b"+",
    b" ",
    b"\\",
    b"\xff",
    b"\0",
)
edits = st.lists(
    st.tuples(st.integers(0, 2_000), st.integers(0, 3), st.sampled_from(INSERTED)),
    max_size=3,
)
layouts = st.fixed_dictionaries(
    {"separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,", " : ")]), "ensure_ascii": st.booleans()}
)


def require_same(registry: Registry, content: bytes, scanned: Envelope) -> None:
    """Require that a scanned body changes in a batch what the parsed one changes, to the last bit."""
    parsed = of_document(orjson.loads(content))
    assert scanned[:3] == parsed[:3]
    assert scanned[3:9] == ([], [], False, (), None, "json")
    assert (parsed.final, parsed.cut) == (False, None)
    shard = registry.shard
    assert scanned.cut is not None
    assert (scanned.cut.body, scanned.cut.samples) == (content, count(parsed))
    states = []
    try:
        for envelope in (scanned, parsed):
            fold_together(shard.fold, envelope)
            states.append(state(shard))
            shard.rollback()
    finally:
        shard.rollback()
    assert states[0] == states[1]


def require_parsed_if_edited(registry: Registry, content: bytes, before: bytes, after: bytes) -> None:
    """Require that a body is scanned, and parsed with another text in it."""
    texts = registry.shard.fold.texts
    assert read_often(texts, content) is not None
    assert before in content
    assert read_often(texts, content.replace(before, after)) is None


def count(parsed: Envelope) -> int:
    return len(parsed.samples) + sum(len(table["rows"]) for table in parsed.tables)


def test_known_samples_are_scanned(taught: Registry) -> None:
    content = body(COUNTER, GAUGE, HISTOGRAM, COUNTER)
    scanned = read_often(taught.shard.fold.texts, content)
    assert scanned is not None
    require_same(taught, content, scanned)


@pytest.mark.parametrize("table", FORMS, ids=str)
@pytest.mark.parametrize("other", FORMS, ids=str)
def test_known_tables_are_scanned(taught: Registry, table: dict[str, Any], other: dict[str, Any]) -> None:
    for said in ([table], [table, other], [other, table, other]):
        content = body(tables=said)
        scanned = read_often(taught.shard.fold.texts, content)
        assert scanned is not None
        require_same(taught, content, scanned)


@pytest.mark.parametrize("stated", [{"samples": []}, {"tables": []}], ids=str)
def test_an_envelope_that_says_nothing_is_scanned(taught: Registry, stated: dict[str, Any]) -> None:
    content = body(**stated)
    scanned = read_often(taught.shard.fold.texts, content)
    assert scanned is not None
    require_same(taught, content, scanned)


EXACT = [0, 1, 2.5, 7e3, 1e-5, 1e300, 5e-324, 0.1, 123456.7891234567, 999_999_999_999_999]


@pytest.mark.parametrize("sample", EACH, ids=lambda sample: str(sample["name"]))
@pytest.mark.parametrize("value", EXACT)
def test_each_number_is_scanned_as_it_is_parsed(taught: Registry, sample: dict[str, Any], value: float) -> None:
    content = body(COUNTER, {**sample, "value": value})
    scanned = read_often(taught.shard.fold.texts, content)
    assert scanned is not None
    require_same(taught, content, scanned)


@pytest.mark.parametrize("value", [-0.0, 10**15, 2**53 + 1, 2**63, 2**64, 2**70, 1e308, 1e22, 1e23])
@pytest.mark.parametrize("sample", EACH, ids=lambda sample: str(sample["name"]))
def test_an_unusual_number_is_parsed_or_means_the_same(taught: Registry, sample: dict[str, Any], value: float) -> None:
    content = body(COUNTER, {**sample, "value": value})
    if scanned := read_often(taught.shard.fold.texts, content):
        require_same(taught, content, scanned)


@given(st.lists(numbers, max_size=12))
@settings(max_examples=200)
def test_a_list_is_added_up_as_it_is_when_parsed(taught: Registry, values: list[float]) -> None:
    content = body(tables=[{**LISTS, "rows": [["a", values]]}])
    if scanned := read_often(taught.shard.fold.texts, content):
        require_same(taught, content, scanned)


@given(
    st.one_of(
        samples.map(lambda said: {"samples": said}), st.lists(tables(), max_size=4).map(lambda said: {"tables": said})
    ),
    st.sampled_from([NOW, int(NOW), 5, 0, -1, None, "2025-11-22T08:00:00Z"]),
    layouts,
    edits,
)
@settings(max_examples=1500, deadline=None)
def test_whatever_is_scanned_is_what_is_parsed(
    taught: Registry, said: dict[str, Any], ts: Any, layout: dict[str, Any], changes: list[tuple[int, int, bytes]]
) -> None:
    texts = taught.shard.fold.texts
    content = spoilt = body(**said, ts=ts, **layout)
    for place, removed, added in changes:
        at = place % len(spoilt)
        spoilt = spoilt[:at] + added + spoilt[at + removed :]
    for each in (content, spoilt, content):
        if scanned := read_often(texts, each):
            require_same(taught, each, scanned)


@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=3), edits)
@settings(max_examples=1500, deadline=None)
def test_a_spoilt_body_of_known_tables_is_parsed_or_means_the_same(
    taught: Registry, said: list[dict[str, Any]], changes: list[tuple[int, int, bytes]]
) -> None:
    texts = taught.shard.fold.texts
    content = spoilt = body(tables=said)
    for place, removed, added in changes:
        at = place % len(spoilt)
        spoilt = spoilt[:at] + added + spoilt[at + removed :]
    for each in (spoilt, content):
        if scanned := read_often(texts, each):
            require_same(taught, each, scanned)
    assert read_often(texts, content) is not None


@pytest.mark.parametrize("end", range(len(body(COUNTER, GAUGE)) + 1))
def test_a_body_that_was_cut_off_is_parsed(taught: Registry, end: int) -> None:
    content = body(COUNTER, GAUGE)
    assert read_often(taught.shard.fold.texts, content) is not None
    scanned = read_often(taught.shard.fold.texts, content[:end])
    assert (scanned is not None) == (end == len(content))


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
        (b'"value":1}', b'"value":1.}'),
        (b'"value":1}', b'"value":.1}'),
        (b'"value":1}', b'"value":1e}'),
        (b'"value":1}', b'"value":1e+}'),
        (b'"value":1}', b'"value":+1}'),
        (b'"value":1}', b'"value":-}'),
        (b'"value":1}', b'"value":1_0}'),
        (b'"value":1}', b'"value":0x1}'),
        (b'"value":1}', b'"value":NaN}'),
        (b'"value":1}', b'"value":1e999}'),
        (b'"value":1}', b'"value":-1}'),
        (b'"value":1}', b'"value":true}'),
        (b'"value":1}', b'"value":1\0}'),
        (b'"ts":1763794800.0', b'"ts":0'),
        (b'"ts":1763794800.0', b'"ts":true'),
        (b'"ts":1763794800.0', b'"ts":1763794800.0,"final":true'),
        (b'"ts":1763794800.0', b'"final":true,"ts":1763794800.0'),
        (b'"ts":1763794800.0', b'"samples":[],"ts":1763794800.0'),
        (b'"ts":1763794800.0', b'"ts" :1,"\\"ts":1763794800.0'),
        (b'"ts":1763794800.0', b'"t\\u0073":1,"\\"ts":1763794800.0'),
        (b'"ts":1763794800.0', b'"\\"t\\u0073":1,"ts" :1.0,"\\"ts":1763794800.0'),
        (b'"v":1', b'"v":2'),
        (b'"v":1', b'"v":1.0'),
        (b"]}", b"]"),
        (b"]}", b'],"final":true}'),
        (b"]}", b'],"v":2}'),
        (b"]}", b"]}}"),
        (b"]}", b"]}\0"),
        (b"]}", b"]}]}"),
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
    require_parsed_if_edited(taught, body(COUNTER, GAUGE, COUNTER), before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"rows":[["a","x",1]', b'"rows":[["a","x",1]],"rows":[["a","x",1]'),
        (b'["b","x",2.5]]}', b'["b","x",2.5]],"name":"queue_size"}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5]],"type":"gauge"}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5]],"ts":5}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5]],"labels":["agent"]}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5,"y"]]}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5],[]]}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5],["b","x"]]}'),
        (b'["b","x",2.5]]}', b'["b","x",2.5],null]}'),
        (b'"labels":["agent","status"]', b'"labels":["status","agent"]'),
        (b'"labels":["agent","status"]', b'"labels":["agent"]'),
        (b'"labels":["agent","status"]', b'"labels":["agent",["status"]]'),
        (b'"labels":["agent","status"]', b'"labels":["agent","status"],"op":"add"'),
        (b'"labels":["agent","status"]', b'"labels":["agent","status"],"type":"gauge"'),
        (b'"labels":["agent","status"]', b'"labels":["agent","status"],"more":null'),
        (b'["a","x",1]', b'["a","x",-1]'),
        (b'["a","x",1]', b'["a","x",[1]]'),
        (b'["a","x",1]', b'["a",true,1]'),
        (b'["a","x",1]', b'["a","x",true]'),
        (b'["a","x",1]', b'["never","x",1]'),
        (b'"ts":1763794797.0', b'"ts":0'),
        (b'"ts":1763794797.0', b'"ts":-1'),
        (b'"ts":1763794797.0', b'"ts":1763794797.0,"ts":null'),
        (b'"ts":1763794797.0', b'"ts":1763794797.0,"name":{"queue":"size"}'),
        (b'"+Inf":2', b'"Infinity":2'),
        (b'"+Inf":2', b'"10.0":2'),
        (b'"+Inf":2', b'"+Inf":2,"20":1'),
        (b'"+Inf":2', b'"+Inf":2,"+Inf":3'),
        (b'"+Inf":2', b'"+Inf":2.5'),
        (b'"+Inf":2', b'"+Inf":-2'),
        (b',"+Inf":2', b""),
        (b'"sum":3.5', b'"sum":3.5,"sum":1'),
        (b'"sum":3.5', b'"sum":3.5,"more":1'),
        (b'"sum":3.5', b'"sum":null'),
        (b'},"sum":3.5', b'},"buckets":null,"sum":3.5'),
        (b'},"sum":3.5', b'}],["a",{"sum":3.5'),
        (b'{"buckets":{', b'{"sum":1,"buckets":{'),
        (b"[0.1,7,0.2]", b"[0.1,7,0.2,[1]]"),
        (b"[0.1,7,0.2]", b'[0.1,7,"x",0.2]'),
        (b"[0.1,7,0.2]", b"[0.1,7,0.2,]"),
        (b"[0.1,7,0.2]", b"[]"),
    ],
    ids=str,
)
def test_a_table_with_anything_else_in_it_is_parsed(taught: Registry, before: bytes, after: bytes) -> None:
    require_parsed_if_edited(taught, body(tables=FORMS), before, after)


@given(
    st.lists(
        samples.map(lambda said: {"samples": said}) | st.lists(tables(), max_size=4).map(lambda said: {"tables": said}),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_bodies_count_the_same_scanned_or_parsed(bodies: list[dict[str, Any]]) -> None:
    shown = []
    for is_scanned in (True, False):
        with fresh_directory() as directory, Registry(directory) as registry:
            fold = registry.shard.fold
            for number, said in enumerate(bodies * 3):
                content = body(**said, ts=NOW - number, source=f"s-{number % 2}")
                scanned = read(fold.texts, content) if is_scanned else None
                fold_together(fold, scanned or decode(content, None, None, len(content)))
                if number % 4 == 0:
                    registry.commit()
            registry.commit()
            shown.append((registry.text(), registry.text("busmon_samples"), registry.rejected()))
    assert shown[0] == shown[1]


def test_bodies_are_read_up_to_a_new_text_and_behind_it(taught: Registry) -> None:
    texts, known = taught.shard.fold.texts, body(COUNTER)
    assert read_often(texts, known)
    new, unknown = body(COUNTER, source="s-new"), body({**COUNTER, "labels": {"agent": "nobody", "status": "x"}})
    envelopes = texts.read([known, unknown, known, new, new])
    assert [envelope and envelope.source for envelope in envelopes] == ["s-1", None, "s-1", None, "s-new"]


@pytest.mark.parametrize("most_texts", [1, 250_000])
def test_bodies_that_are_never_scanned_cost_the_others_no_scan(
    taught: Registry, most_texts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, content = taught.shard.fold.texts, body(COUNTER)
    assert read_often(texts, content)
    monkeypatch.setattr(learning, "MAX_TEXTS", most_texts)
    monkeypatch.setattr(known_texts, "_FORGET_AFTER", 100)
    large = body(COUNTER) + b" " * MAX_BODY_BYTES
    assert texts.read([large] * 600) == [None] * 600
    assert read(texts, content)


def nest(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize("levels", [98, 99, 250, 251, 252, 253, 1020, 1100])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'["a",1]', b'["a",1,%b]'),
        (b'["b",-3]]', b'["b",-3],%b]'),
        (b'["b",-3]]}', b'["b",-3]],"more":%b}'),
        (b'["b",-3]]}]}', b'["b",-3]]}],"more":%b}'),
        (b'"tables"', b'"more":%b,"tables"'),
        (b'"ts"', b'"more":%b,"ts"'),
        (b'"name"', b'"more":%b,"name"'),
        (b'["a",1]', b'["a",%b,1]'),
    ],
    ids=str,
)
def test_a_deeply_nested_body_is_parsed_or_means_the_same(
    taught: Registry, before: bytes, after: bytes, levels: int
) -> None:
    content = body(tables=[LEVELS])
    assert read_often(taught.shard.fold.texts, content) is not None
    spoilt = content.replace(before, after % nest(levels))
    assert spoilt != content
    if scanned := read_often(taught.shard.fold.texts, spoilt):
        require_same(taught, spoilt, scanned)


def test_a_list_of_deeply_nested_observations_is_parsed(taught: Registry) -> None:
    content = body(tables=[{**LISTS, "rows": [["a", [0.1, 7, 0.2]], ["a", 4]]}])
    for levels in (250, 251, 252):
        spoilt = content.replace(b"0.2]", b"0.2,%b]" % nest(levels))
        assert read_often(taught.shard.fold.texts, spoilt) is None


@pytest.mark.parametrize(
    "long", [b" " * 900_000, b'"x":"%b",' % (b"a" * 900_000), b'"x":[%b0],' % (b'"",' * 300_000)], ids=len
)
def test_a_long_text_is_not_searched_to_its_end(taught: Registry, long: bytes) -> None:
    content = body(COUNTER).replace(b'"samples"', long + b'"samples"')
    texts = KnownTexts(taught.shard.fold._routes)
    assert read(texts, content) is None
    tracemalloc.start()
    try:
        assert read(texts, content) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000


def test_a_body_of_many_numbers_is_scanned(taught: Registry) -> None:
    content = body(*[COUNTER, GAUGE] * 600)
    scanned = read_often(taught.shard.fold.texts, content)
    assert scanned is not None
    require_same(taught, content, scanned)


def test_a_body_of_too_many_numbers_is_parsed(taught: Registry) -> None:
    rows = [["a", "x", 1]] * 40_000
    content = body(tables=[{**COUNTS, "rows": rows}])
    assert len(content) < MAX_BODY_BYTES
    assert read_often(taught.shard.fold.texts, content) is None


def test_the_bounds_of_the_examples_are_the_familys(taught: Registry) -> None:
    family = taught.shard.fold.groups["task_duration_seconds"].family
    assert [*map(float, BOUNDS)] == [*family.buckets, float("inf")]
