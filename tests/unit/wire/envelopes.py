"""Envelopes and samples with a verdict, for whoever judges them: the schemas, the decoder, the fold.

An invalid envelope goes to quarantine whole; an invalid sample or table is refused where it stands, at most whole. The
valid ones fit the built-in catalogue or state their type. The strategies at the end invent more of each kind.
"""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from hypothesis import strategies as st


class Case(NamedTuple):
    name: str
    document: Any
    valid: bool


def _envelope(**members: Any) -> dict[str, Any]:
    return {"v": 1, "source": "analyzer-7f9c2", "samples": []} | members


def _without(document: dict[str, Any], *members: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in members}


_SAMPLE = {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 42}
_TABLE = {"name": "messages_published_total", "labels": ["exchange", "routing_key"], "rows": [["agents", "task", 12]]}
_BUCKETS = {"0.1": 1, "0.5": 0, "1": 0, "2": 3, "5": 0, "10": 0, "+Inf": 1}


ENVELOPES = [
    Case("null tables alone", {"v": 1, "source": "s", "agent": "a", "ts": 5, "tables": None}, valid=True),
    Case(
        "the zero values of a Go struct",
        {"v": 1, "source": "s", "agent": "", "ts": 0, "samples": None, "tables": None, "final": False},
        valid=True,
    ),
    Case("a source that stops", _envelope(final=True), valid=True),
    Case("a source that goes on", _envelope(final=False), valid=True),
    Case("a source that doesn't say", _envelope(final=None), valid=True),
    Case("a number for a flag", _envelope(final=1), valid=False),
    Case("a text for a flag", _envelope(final="true"), valid=False),
    Case("a heartbeat", _envelope(), valid=True),
    Case("tables alone", _without(_envelope(tables=[]), "samples"), valid=True),
    Case("samples and tables", _envelope(samples=[_SAMPLE], tables=[_TABLE]), valid=True),
    Case("agent and time", _envelope(agent="analyzer", ts=1763794800.123456), valid=True),
    Case("a whole second", _envelope(ts=1763794800), valid=True),
    Case("an unknown member", _envelope(trace={"id": 7}), valid=True),
    Case("nulls for what is absent", _envelope(agent=None, ts=None, tables=None), valid=True),
    Case("the longest source", _envelope(source="s" * 200), valid=True),
    Case("names beyond ASCII", _envelope(source="prüfer-1", agent="分析"), valid=True),
    Case("no version", _without(_envelope(), "v"), valid=False),
    Case("version 2", _envelope(v=2), valid=False),
    Case("a version in text", _envelope(v="1"), valid=False),
    Case("true for a version", _envelope(v=True), valid=False),
    Case("no source", _without(_envelope(), "source"), valid=False),
    Case("an empty source", _envelope(source=""), valid=False),
    Case("a source that is a number", _envelope(source=7), valid=False),
    Case("a source of a user's other format", _envelope(source="alice\x1fhost-1"), valid=False),
    Case("a source with another control character", _envelope(source="host\n1\n"), valid=True),
    Case("a source that is too long", _envelope(source="s" * 201), valid=False),
    Case("an empty agent", _envelope(agent=""), valid=True),
    Case("an agent that is a list", _envelope(agent=["analyzer"]), valid=False),
    Case("an agent that is too long", _envelope(agent="a" * 201), valid=False),
    Case("a time by RFC 3339", _envelope(ts="2025-11-22T07:00:00Z"), valid=True),
    Case("a time in small letters", _envelope(ts="2025-11-22t07:00:00.123456789z"), valid=True),
    Case("an empty time", _envelope(ts=""), valid=True),
    Case("Go's zero time", _envelope(ts="0001-01-01T00:00:00Z"), valid=True),
    Case(".NET's zero time", _envelope(ts="0001-01-01T00:00:00"), valid=True),
    Case("a time without an offset", _envelope(ts="2025-11-22T07:00:00"), valid=False),
    Case("a day", _envelope(ts="2025-11-22"), valid=False),
    Case("a time of another form", _envelope(ts="Sat, 22 Nov 2025 07:00:00 GMT"), valid=False),
    Case("a number in text", _envelope(ts="1763794800"), valid=False),
    Case("a time in text before the epoch", _envelope(ts="1969-07-20T20:17:40Z"), valid=False),
    Case("an hour too many", _envelope(ts="2025-11-22T24:00:00Z"), valid=False),
    Case("a month too many", _envelope(ts="2025-13-22T07:00:00Z"), valid=False),
    Case("a list for a time", _envelope(ts=[]), valid=False),
    Case("true for a time", _envelope(ts=True), valid=False),
    Case("false for a time", _envelope(ts=False), valid=False),
    Case("time 0", _envelope(ts=0), valid=True),
    Case("a time before the epoch", _envelope(ts=-1.5), valid=False),
    Case("neither samples nor tables", _without(_envelope(), "samples"), valid=False),
    Case("null samples alone", _envelope(samples=None), valid=True),
    Case("an empty object of samples", _envelope(samples={}), valid=False),
    Case("samples in an object", _envelope(samples={"queue_size": 42}), valid=False),
    Case("tables in text", _envelope(tables="none"), valid=False),
    Case("a list", [_envelope()], valid=False),
    Case("a number", 42, valid=False),
    Case("null", None, valid=False),
    Case("an empty object", {}, valid=False),
]

_KEPT = {"name": "backup_size_bytes", "type": "gauge", "outlives_source": True, "value": 42}
_KEPT_TABLE = {
    "name": "backup_size_bytes",
    "type": "gauge",
    "outlives_source": True,
    "labels": ["db"],
    "rows": [["a", 42]],
}

SAMPLES = [
    Case("a gauge", _SAMPLE, valid=True),
    Case("a negative gauge", _SAMPLE | {"value": -0.5}, valid=True),
    Case("a set gauge", _SAMPLE | {"op": "set", "type": "gauge"}, valid=True),
    Case("a gauge that outlives its source", _KEPT, valid=True),
    Case("one that is said to be set", _KEPT | {"op": "set"}, valid=True),
    Case("one that doesn't say so", _SAMPLE | {"outlives_source": None}, valid=True),
    Case("one that says no", _SAMPLE | {"outlives_source": False}, valid=True),
    Case("a text for that", _KEPT | {"outlives_source": "true"}, valid=False),
    Case("a number for that", _KEPT | {"outlives_source": 1}, valid=False),
    Case("a counter that outlives its source", _KEPT | {"name": "nodes_total", "type": "counter"}, valid=False),
    Case("an added gauge that outlives its source", _KEPT | {"op": "add"}, valid=False),
    Case("a gauge with its own time", _SAMPLE | {"ts": 1763794799.9}, valid=True),
    Case("nulls for what is absent", _SAMPLE | {"ts": None, "op": None, "type": None, "values": None}, valid=True),
    Case("an unknown member", _SAMPLE | {"unit": "messages"}, valid=True),
    Case("an empty label value", _SAMPLE | {"labels": {"queue": ""}}, valid=True),
    Case("no labels", {"name": "user_online_count", "value": 3}, valid=True),
    Case("null labels", {"name": "user_online_count", "labels": None, "value": 3}, valid=True),
    Case("a counter", {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}, valid=True),
    Case("an increment of 0", {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 0}, valid=True),
    Case("an adopted counter", {"name": "documents_indexed_total", "type": "counter", "value": 2.5}, valid=True),
    Case("an adopted gauge that adds", {"name": "open_files", "type": "gauge", "op": "add", "value": -1}, valid=True),
    Case(
        "a label that a scrape sets", {"name": "nodes", "type": "gauge", "labels": {"job": "a"}, "value": 1}, valid=True
    ),
    Case("an observation", {"name": "request_size_bytes", "value": 512}, valid=True),
    Case("observations", {"name": "request_size_bytes", "type": "summary", "values": [512, 0.5, -1]}, valid=True),
    Case("no observation", {"name": "request_size_bytes", "values": []}, valid=True),
    Case(
        "buckets",
        {"name": "task_duration_seconds", "labels": {"agent": "analyzer"}, "buckets": _BUCKETS, "sum": 13.5},
        valid=True,
    ),
    Case("not an object", ["queue_size", 42], valid=False),
    Case("no name", _without(_SAMPLE, "name"), valid=False),
    Case("a name that is a number", _SAMPLE | {"name": 7}, valid=False),
    Case("a name with a space", {"name": "queue size", "type": "gauge", "value": 1}, valid=False),
    Case("a name that starts with a digit", {"name": "5xx_total", "type": "counter", "value": 1}, valid=False),
    Case("a name of a recording rule", {"name": "job:errors:rate5m", "type": "gauge", "value": 1}, valid=False),
    Case("a name that is too long", {"name": "n" * 201, "type": "gauge", "value": 1}, valid=False),
    Case("an unknown type", {"name": "nodes", "type": "info", "value": 1}, valid=False),
    Case("a type that is a list", {"name": "nodes", "type": ["gauge"], "value": 1}, valid=False),
    Case("no value", _without(_SAMPLE, "value"), valid=False),
    Case("a null value", _SAMPLE | {"value": None}, valid=False),
    Case("a value in text", _SAMPLE | {"value": "42"}, valid=False),
    Case("true for a value", _SAMPLE | {"value": True}, valid=False),
    Case("a list for a value", {"name": "request_size_bytes", "value": [512]}, valid=False),
    Case("value and values", {"name": "request_size_bytes", "value": 512, "values": [512]}, valid=False),
    Case("values in text", {"name": "request_size_bytes", "values": ["512"]}, valid=False),
    Case("true among the values", {"name": "request_size_bytes", "values": [512, True]}, valid=False),
    Case("a negative increment", {"name": "nodes_total", "type": "counter", "value": -1}, valid=False),
    Case("observations of a counter", {"name": "nodes_total", "type": "counter", "values": [1]}, valid=False),
    Case("observations of a gauge", {"name": "nodes", "type": "gauge", "values": [1]}, valid=False),
    Case("a counter with an op", {"name": "nodes_total", "type": "counter", "op": "add", "value": 1}, valid=False),
    Case("an unknown op", {"name": "nodes", "type": "gauge", "op": "max", "value": 1}, valid=False),
    Case("labels in a list", _SAMPLE | {"labels": ["queue"]}, valid=False),
    Case("a label value that is a number", _SAMPLE | {"labels": {"queue": 7}}, valid=True),
    Case("a label value that is a fraction", _SAMPLE | {"labels": {"queue": 0.5}}, valid=True),
    Case("a label value that is true", _SAMPLE | {"labels": {"queue": True}}, valid=True),
    Case("a label value that is an object", _SAMPLE | {"labels": {"queue": {}}}, valid=False),
    Case("PHP's empty labels", {"name": "user_online_count", "labels": [], "value": 3}, valid=True),
    Case("labels that are 0", {"name": "user_online_count", "labels": 0, "value": 3}, valid=False),
    Case(
        "the zero values of a Go struct",
        _SAMPLE | {"type": "", "op": "", "ts": 0, "values": [], "buckets": {}, "sum": 0, "trace_id": ""},
        valid=True,
    ),
    Case("a value of 0 alone", _SAMPLE | {"value": 0, "values": [], "buckets": None, "sum": 0}, valid=True),
    Case("a value of 0 next to values", {"name": "request_size_bytes", "value": 0, "values": [512]}, valid=True),
    Case(
        "values next to PHP's empty buckets", {"name": "request_size_bytes", "values": [1], "buckets": []}, valid=True
    ),
    Case("no observations", {"name": "request_size_bytes", "values": [], "buckets": {}, "sum": 0}, valid=True),
    Case(
        "values and buckets",
        {"name": "waits", "type": "histogram", "values": [1], "buckets": {"1": 1}, "sum": 1},
        valid=False,
    ),
    Case(
        "values and no buckets of a list",
        {"name": "waits", "type": "histogram", "values": [1], "buckets": [1], "sum": 1},
        valid=False,
    ),
    Case(
        "a value of 0 next to buckets",
        {"name": "waits", "type": "histogram", "value": 0.0, "values": [], "buckets": {"1": 1}, "sum": 1},
        valid=True,
    ),
    Case(
        "a value of 0 next to a counter's values",
        {"name": "nodes_total", "type": "counter", "value": 0, "values": [1]},
        valid=False,
    ),
    Case("false next to values", {"name": "request_size_bytes", "value": False, "values": [512]}, valid=False),
    Case("values that are an object", {"name": "request_size_bytes", "value": 1, "values": {}}, valid=False),
    Case("a label value that is null", _SAMPLE | {"labels": {"queue": None}}, valid=False),
    Case("a label value that is too long", _SAMPLE | {"labels": {"queue": "q" * 1025}}, valid=False),
    Case("a histogram's label", {"name": "nodes", "type": "gauge", "labels": {"le": "1"}, "value": 1}, valid=True),
    Case("a reserved prefix", {"name": "nodes", "type": "gauge", "labels": {"__name__": "n"}, "value": 1}, valid=False),
    Case("a label with a dot", {"name": "nodes", "type": "gauge", "labels": {"a.b": "1"}, "value": 1}, valid=False),
    Case("a sample of a trace", _SAMPLE | {"trace_id": "t" * 120}, valid=True),
    Case("a trace that is too long", _SAMPLE | {"trace_id": "t" * 121}, valid=False),
    Case("a trace by number", _SAMPLE | {"trace_id": 7}, valid=False),
    Case("a time in text", _SAMPLE | {"ts": "now"}, valid=False),
    Case("a time by RFC 3339", _SAMPLE | {"ts": "2025-11-22T07:00:00.5+05:30"}, valid=True),
    Case("an empty time", _SAMPLE | {"ts": ""}, valid=True),
    Case("time 0", _SAMPLE | {"ts": 0}, valid=True),
    Case("buckets without a sum", {"name": "waits", "type": "histogram", "buckets": {"1": 1}}, valid=False),
    Case("buckets of a summary", {"name": "waits", "type": "summary", "buckets": {"1": 1}, "sum": 1}, valid=False),
    Case("a negative count", {"name": "waits", "type": "histogram", "buckets": {"1": -1}, "sum": 1}, valid=False),
    Case("half a count", {"name": "waits", "type": "histogram", "buckets": {"1": 0.5}, "sum": 1}, valid=False),
    Case(
        "a bound that isn't a number",
        {"name": "waits", "type": "histogram", "buckets": {"NaN": 1}, "sum": 1},
        valid=False,
    ),
    *(
        Case(
            f"{bound} among the bounds",
            {"name": "task_duration_seconds", "labels": {"agent": "a"}, "buckets": _BUCKETS | {bound: 1}, "sum": 1},
            valid=False,
        )
        for bound in ("NaN", "-Inf", "1_5", " 3 ", "0x10", "")
    ),
    Case("one bucket", {"name": "waits", "type": "histogram", "buckets": {"+Inf": 3}, "sum": 0}, valid=True),
    Case("no buckets", {"name": "waits", "type": "histogram", "buckets": {}, "sum": 0}, valid=False),
    Case("a list of buckets", {"name": "waits", "type": "histogram", "buckets": [1], "sum": 1}, valid=False),
]

TABLES = [
    Case("a counter's rows", _TABLE, valid=True),
    Case("no rows", _TABLE | {"rows": []}, valid=True),
    Case("gauges that outlive their source", _KEPT_TABLE, valid=True),
    Case("a text for that", _KEPT_TABLE | {"outlives_source": "yes"}, valid=False),
    Case("a summary that outlives its source", _KEPT_TABLE | {"type": "summary"}, valid=False),
    Case("no labels", {"name": "user_online_count", "rows": [[3]]}, valid=True),
    Case(
        "type, op and time", {"name": "open_files", "type": "gauge", "op": "add", "ts": 1.5, "rows": [[3]]}, valid=True
    ),
    Case("observations", {"name": "request_size_bytes", "type": "summary", "rows": [[[512, 9]], [3]]}, valid=True),
    Case(
        "buckets",
        {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["a", {"buckets": _BUCKETS, "sum": 13.5}]]},
        valid=True,
    ),
    Case("the zero values of a Go struct", _TABLE | {"type": "", "op": "", "ts": 0, "rows": None}, valid=True),
    Case("PHP's labels that are an object", {"name": "user_online_count", "labels": {}, "rows": [[3]]}, valid=True),
    Case("a time by RFC 3339", _TABLE | {"ts": "2025-11-22t07:00:00z"}, valid=True),
    Case(
        "label values that are numbers and booleans", _TABLE | {"rows": [[5, True, 12], [-0.5, False, 3]]}, valid=True
    ),
    Case("an object of labels", _TABLE | {"labels": {"exchange": "agents"}}, valid=False),
    Case("null for a label value", _TABLE | {"rows": [[None, "task", 12]]}, valid=False),
    Case("rows that are false", _TABLE | {"rows": False}, valid=False),
    Case("not an object", [_TABLE], valid=False),
    Case("no name", _without(_TABLE, "name"), valid=False),
    Case("rows missing", _without(_TABLE, "rows"), valid=False),
    Case("rows in an object", _TABLE | {"rows": {}}, valid=False),
    Case("labels in text", _TABLE | {"labels": "exchange"}, valid=False),
    Case("a label twice", _TABLE | {"labels": ["exchange", "exchange"]}, valid=False),
    Case("a process's label", {"name": "nodes", "type": "gauge", "labels": ["pid"], "rows": [["1", 1]]}, valid=True),
    Case("a reserved label", {"name": "nodes", "type": "gauge", "labels": ["__n"], "rows": [["1", 1]]}, valid=False),
    Case("a row that isn't a list", _TABLE | {"rows": [7]}, valid=False),
    Case("an empty row", _TABLE | {"rows": [[]]}, valid=False),
    Case("a null cell", _TABLE | {"rows": [["agents", "task", None]]}, valid=False),
    Case("true in the last cell", _TABLE | {"rows": [["agents", "task", True]]}, valid=False),
    Case("a negative increment", {"name": "nodes_total", "type": "counter", "rows": [[-1]]}, valid=False),
    Case("observations of a gauge", {"name": "nodes", "type": "gauge", "rows": [[[1]]]}, valid=False),
    Case(
        "buckets of a summary", {"name": "waits", "type": "summary", "rows": [[{"buckets": {}, "sum": 0}]]}, valid=False
    ),
    Case("a counter with an op", {"name": "nodes_total", "type": "counter", "op": "set", "rows": [[1]]}, valid=False),
]


# -- strategies ------------------------------------------------------------------------------------------------------

_finite = st.floats(-1e300, 1e300) | st.integers(-(2**53), 2**53)
_positive = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
_counts = st.integers(0, 2**53)
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_sources = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), min_size=1, max_size=20)
_names = st.from_regex(r"\A[a-zA-Z_][a-zA-Z0-9_]{0,30}\Z")
_label_names = st.from_regex(r"\A[a-z][a-z0-9_]{0,10}\Z")
_label_values = _texts | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e300, 1e300)
_bounds = st.floats(min_value=0, max_value=1e9).map(repr)
_junk = st.booleans() | st.lists(st.none(), min_size=1) | st.dictionaries(_texts, st.none(), min_size=1)
_buckets = st.builds(dict.__or__, st.dictionaries(_bounds, _counts, min_size=1), st.just({"+Inf": 2}) | st.just({}))
_histogram_parts = st.fixed_dictionaries({"buckets": _buckets, "sum": _finite})
_times = st.datetimes(datetime(1970, 1, 2), timezones=st.just(UTC)).map(datetime.isoformat)  # noqa: DTZ001 - it gets its zone
_stated = {"ts": st.none() | _positive | st.sampled_from([0, "", "0001-01-01T00:00:00Z"]) | _times}
_no_times = _junk | _texts.filter(bool) | st.floats(max_value=0, exclude_max=True, allow_infinity=False)


def _samples_of(type_: str, measured: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    stated = st.fixed_dictionaries(
        {"name": _names, "type": st.just(type_)},
        optional={"labels": st.dictionaries(_label_names, _label_values, max_size=3), **_stated},
    )
    return st.builds(dict.__or__, stated, measured)


def _value(values: st.SearchStrategy[float]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"value": values})


_observed: st.SearchStrategy[dict[str, Any]] = _value(_finite) | st.fixed_dictionaries(
    {"values": st.lists(_finite, min_size=1, max_size=5)},
    optional={"value": st.sampled_from([None, 0]), "buckets": st.sampled_from([None, {}, []])},
)

valid_samples = (
    _samples_of("counter", _value(_counts | _positive))
    | _samples_of("gauge", st.fixed_dictionaries({"value": _finite, "op": st.sampled_from(["set", "add", "", None])}))
    | _samples_of("gauge", st.fixed_dictionaries({"value": _finite, "outlives_source": st.booleans()}))
    | _samples_of("summary", _observed)
    | _samples_of("histogram", _observed | _histogram_parts)
)
"""Samples of any form; whether a family fits them is another matter."""

valid_envelopes = st.fixed_dictionaries(
    {"v": st.just(1), "source": _sources, "samples": st.lists(valid_samples, max_size=3)},
    optional={"agent": _texts.filter(bool), "tables": st.just([_TABLE]), **_stated},
)


def _broken(
    documents: st.SearchStrategy[dict[str, Any]], breakages: dict[str, st.SearchStrategy[Any]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Each document with one member replaced by what it can't be."""
    replacement = st.one_of([st.tuples(st.just(member), bad) for member, bad in breakages.items()])
    return st.builds(lambda document, member: document | {member[0]: member[1]}, documents, replacement)


broken_samples = _broken(
    valid_samples,
    {
        "name": _junk | _finite | _texts.filter(lambda text: not text or not text[0].isascii() or text[0] in "0 -."),
        "type": _junk | _texts.filter(lambda text: text not in {"counter", "gauge", "histogram", "summary", ""}),
        "labels": st.sampled_from(
            [["queue"], "queue", True, {"queue": []}, {"queue": None}, {"__x": "1"}, {"a.b": ""}]
        ),
        "value": _junk | _texts,
        "op": _junk | _texts.filter(lambda text: text not in {"set", "add", ""}),
        "outlives_source": _texts | _finite | st.lists(st.none()),
        "ts": _no_times,
    },
)

broken_envelopes = _broken(
    valid_envelopes,
    {
        "v": _junk | _texts | st.none() | st.integers(-(2**53), 2**53).filter(lambda version: version != 1),
        "source": _junk | st.none() | _finite | st.just("") | st.text("s", min_size=201, max_size=300),
        "agent": _junk | _finite | st.text("a", min_size=201, max_size=300),
        "ts": _no_times,
        "samples": _texts | _finite | st.booleans() | st.dictionaries(_texts, st.none()),
        "tables": _texts | _finite | st.booleans() | st.dictionaries(_texts, st.none()),
    },
)
