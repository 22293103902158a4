"""Any JSON in any place of an envelope: the decoder refuses it in its own words, or the fold takes it without a word.

Whatever was folded is committed, scraped and opened again, and a good sample counts after it as before.
"""

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from busmon.errors import EnvelopeError
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import decode
from tests.unit.registry.registries import MAX_BYTES, NOW, Registry, fresh_directory, parsed, series, without_own

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}

DOCUMENT: dict[str, Any] = {
    "v": 1,
    "source": "s-1",
    "agent": "tester",
    "ts": NOW,
    "samples": [
        {"name": "votes_cast_total", "labels": {"type": "downvote"}, "value": 1},
        {"name": "queue_size", "labels": {"queue": "q"}, "value": 42, "ts": NOW - 1, "op": "set"},
        {"name": "active_agents", "labels": {"type": "q"}, "value": 42},
        {"name": "task_duration_seconds", "labels": {"agent": "a"}, "values": [0.21, 0.4]},
        {"name": "request_size_bytes", "value": 3},
        {"name": "waits", "type": "histogram", "labels": {"job": "x"}, "buckets": {"1": 3, "+Inf": 0}, "sum": 0.61},
        {"name": "open_files", "type": "gauge", "op": "add", "value": -1},
    ],
    "tables": [
        {"name": "tasks_processed_total", "labels": ["agent", "status"], "rows": [["a", "x", 12], ["b", "x", 3]]},
        {"name": "task_duration_seconds", "type": "histogram", "labels": ["agent"], "rows": [["a", [1, 2]], ["b", 3]]},
        {"name": "waits", "labels": ["instance"], "rows": [["a", {"buckets": {"1": 3, "+Inf": 0}, "sum": 0.61}]]},
    ],
}

texts = st.text(max_size=8) | st.sampled_from(
    [
        "name",
        "value",
        "counter",
        "gauge",
        "histogram",
        "summary",
        "add",
        "set",
        "queue_size",
        "waits",
        "up",
        "le",
        "1e5",
    ]
)
numbers = (
    st.integers()
    | st.floats()
    | st.sampled_from([2**63, 2**64, -(2**63) - 1, 10**400, 1.7976931348623157e308, 5e-324, -0.0])
)
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)
Step = str | int


def places(document: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """The way to every value in a document, itself included."""
    yield path
    members = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for step, value in members:
        yield from places(value, (*path, step))


PLACES = list(places(DOCUMENT))


@st.composite
def documents(draw: st.DrawFn) -> Any:
    """The document with other values in some places, or none; renamed members, too."""
    document: Any = deepcopy(DOCUMENT)
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        if not path:
            return draw(values)
        owner = document
        for step in path[:-1]:
            owner = owner[step] if exists(owner, step) else None
        if not exists(owner, path[-1]):
            continue
        owner[path[-1]] = draw(values)
        if isinstance(owner, dict) and draw(st.booleans()):
            owner[draw(texts)] = owner.pop(path[-1])
    return document


def exists(owner: Any, step: Step) -> bool:
    return (isinstance(owner, dict) and step in owner) or (
        isinstance(owner, list) and isinstance(step, int) and step < len(owner)
    )


def body(document: Any) -> bytes:
    """As Python's own encoder has it, with NaN, infinities and lone surrogates."""
    return json.dumps(document).encode()


def nested(depth: int) -> Any:
    document: Any = 1
    for _ in range(depth):
        document = [document]
    return document


def decoded(published: bytes) -> Envelope | None:
    """The envelope in a body, None where it is refused in the decoder's own words."""
    try:
        return decode(published, None, None, MAX_BYTES)
    except EnvelopeError as refusal:
        words = refusal
    assert words.reason in {"invalid_json", "invalid_envelope", "version", "empty_body"}
    assert "\n" not in str(words)
    return None


@settings(max_examples=100, deadline=None)
@given(st.binary() | documents().map(body) | st.builds(lambda d, cut: body(d)[:cut], documents(), st.integers(0, 900)))
@example(body(DOCUMENT | {"v": nested(900)}))
@example(body({**DOCUMENT, "v": nested(20)}).replace(b"[" * 20, b"[" * 1000).replace(b"]" * 20, b"]" * 1000))
@example(body(DOCUMENT | {"samples": [nested(900), VOTE | {"name": nested(900)}, VOTE | {"value": float("nan")}]}))
@example(body(DOCUMENT | {"samples": [VOTE | {"labels": {"type": "\ud800"}}]}))
@example(body(DOCUMENT | {"samples": [VOTE | {"value": 10**400}]}))
def test_no_body_raises_or_spoils_what_comes_after_it(published: bytes) -> None:
    opened = decoded(published)
    if opened is None:
        return
    with fresh_directory() as directory:
        with Registry(directory) as registry:
            registry.shard.ledger.admit(opened.source, "s-1:1", NOW)
            registry.shard.fold.envelope(opened, NOW)
            registry.fold(VOTE)
            registry.commit()
        with Registry(directory) as registry:
            registry.fold(VOTE)
            registry.commit()
            assert without_own(parsed(registry.text()))[series("votes_cast_total", type="upvote")] >= 2


@settings(max_examples=50, deadline=None)
@given(documents())
def test_a_sample_is_either_folded_or_rejected(document: Any) -> None:
    opened = decoded(body(document))
    assume(opened is not None)
    assert opened is not None
    assume(not any(isinstance(table, dict) and table.get("rows", 0) in ([], None) for table in opened.tables))
    amount = len(opened.samples) + sum(rows(table) for table in opened.tables)
    with fresh_directory() as directory, Registry(directory) as registry:
        registry.shard.fold.envelope(opened, NOW)
        registry.commit()
        accounts = registry.text("busmon_samples_folded_total", "busmon_samples_rejected_total")
    assert sum(parsed(accounts).values()) == amount


def rows(table: Any) -> int:
    """How many samples a table is: its rows, or the one that it itself is where it has none."""
    found = table.get("rows") if isinstance(table, dict) else None
    return len(found) if isinstance(found, list) else 1
