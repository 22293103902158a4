"""Prometheus' text and OpenMetrics: the series that a body states, and what is rejected of it with which reason."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from pika import BasicProperties
from pika.spec import Basic
from prometheus_client.openmetrics import exposition as openmetrics

from busmon.bus.frames.delivery import Delivery
from busmon.errors import EnvelopeError
from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Envelope, Observed
from busmon.wire.formats import Formats
from busmon.wire.prometheus_text import decode
from tests.unit.registry.registries import NOW

from .folded import Folded

QUEUE = {"queue": 'a "b" # {c}\\d\ne'}
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def decoded(body: str | bytes, content_type: str | None = "text/plain; version=0.0.4") -> Envelope:
    return decode(Arrival(body if isinstance(body, bytes) else body.encode(), content_type, None, 1 << 20))


def points(body: str | bytes, content_type: str | None = "text/plain; version=0.0.4") -> dict[str, Any]:
    """Type and value of each series, by its family; its labels are left to `labelled`."""
    return {point.family: (point.type, point.value) for point in decoded(body, content_type).parts[0].points}


def labelled(body: str) -> list[tuple[str, dict[str, str], Any]]:
    return [(point.name, dict(point.labels), point.value) for point in decoded(body).parts[0].points]


def rejected(body: str) -> dict[str, int]:
    rejections = decoded(body).parts[0].rejections
    assert rejections is not None
    return dict(rejections.counts)


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Folded]:
    opened = Folded(tmp_path, "prometheus")
    yield opened
    opened.close()


# -- which family a sample is of ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "own"),
    [
        ("gauge", {"total", "bucket", "sum", "count", "created", "info"}),
        ("unknown", {"total", "bucket", "sum", "count", "created", "info"}),
        ("counter", {"bucket", "sum", "count", "info"}),
        ("summary", {"total", "bucket", "info"}),
        ("histogram", {"total", "info"}),
    ],
)
def test_a_sample_is_a_part_of_a_family_only_by_its_type(type_: str, own: set[str]) -> None:
    lines = [f'x_{suffix}{{le="1"}} {value}' for value, suffix in enumerate(sorted(own), start=2)]
    head = {"gauge": "x 1", "unknown": "x 1", "counter": "x 1", "summary": "x_count 1", "histogram": "x_count 1"}
    found = points("\n".join([f"# TYPE x {type_}", head[type_], *lines]))
    assert {name: value for name, (kind, value) in found.items() if kind is None and name != "x"} == {
        f"x_{suffix}": value for value, suffix in enumerate(sorted(own), start=2)
    }
    assert len(found) == len(own) + 1


def test_a_sample_without_a_type_overwrites_no_family_whose_name_it_begins_with(prometheus: Folded) -> None:
    prometheus.take(b'# TYPE x gauge\nx 0.5\nx_total 9\nx_sum 3\nx_bucket{le="1"} 4\n')
    assert [prometheus.value(name) for name in ("x", "x_total", "x_sum")] == [0.5, 9, 3]
    assert prometheus.value("x_bucket", exported_le="1") == 4
    assert prometheus.rejected() == {}


def test_a_name_with_a_type_of_its_own_is_no_part_of_another_family() -> None:
    body = "# TYPE x histogram\nx_count 1\nx_sum 2\n# TYPE y summary\n# TYPE y_count counter\ny_count 4"
    assert points(body) == {"x": ("histogram", Observed(1, 2, {})), "y_count_total": ("counter", 4)}


@pytest.mark.parametrize("lines", [("# TYPE x counter", "x 3"), ("x 3", "# TYPE x counter")], ids=["before", "after"])
def test_a_type_is_its_familys_wherever_it_stands(lines: tuple[str, str]) -> None:
    assert points("\n".join(lines)) == {"x_total": ("counter", 3)}


def test_the_first_of_two_types_counts_and_the_other_is_told() -> None:
    body = "# TYPE x counter\nx 1\n# TYPE x gauge\n# TYPE x counter\n# TYPE y enum\ny 2"
    assert points(body) == {"x_total": ("counter", 1), "y": (None, 2)}
    assert rejected(body) == {"type_mismatch": 1, "invalid_type": 1}


def test_samples_that_no_type_has_are_told() -> None:
    body = "# TYPE x histogram\nx 5\nx_count 1\n# TYPE y summary\ny 5\ny_count 2"
    assert points(body) == {"x": ("histogram", Observed(1, 0, {})), "y": ("summary", Observed(2, 0, {}))}
    assert rejected(body) == {"type_mismatch": 2}


def test_a_value_of_no_type_is_never_an_observation(prometheus: Folded) -> None:
    prometheus.take(b'task_duration_seconds{agent="a"} 3\ntasks_processed_total{agent="a",status="success"} 3')
    assert prometheus.rejected() == {"type_mismatch": 1}
    assert prometheus.value("task_duration_seconds_count", agent="a") is None
    assert prometheus.value("tasks_processed_total", agent="a", status="success") == 3


def test_openmetrics_other_types_are_gauges() -> None:
    body = (
        '# TYPE build info\nbuild_info{version="1"} 1\n'
        '# TYPE state stateset\nstate{state="on"} 1\nstate{state="off"} 0\n'
        '# TYPE sizes gaugehistogram\nsizes_bucket{le="+Inf"} 3\nsizes_gcount 3\nsizes_gsum 4\n'
        "# TYPE odd unknown\n# UNIT odd seconds\nodd 5\n# EOF\n"
    )
    assert [
        (point.name, point.type, dict(point.labels), point.value)
        for point in decoded(body, OPENMETRICS).parts[0].points
    ] == [
        ("build_info", "gauge", {"version": "1"}, 1),
        ("state", "gauge", {"state": "on"}, 1),
        ("state", "gauge", {"state": "off"}, 0),
        ("sizes_bucket", "gauge", {"le": "+Inf"}, 3),
        ("sizes_gcount", "gauge", {}, 3),
        ("sizes_gsum", "gauge", {}, 4),
        ("odd", None, {}, 5),
    ]
    assert rejected(body) == {}


@pytest.mark.parametrize("stated", ["jobs", "jobs_total"])
def test_a_created_line_states_since_when_its_total_counts(stated: str) -> None:
    body = f"# TYPE {stated} counter\njobs_total 3\n# TYPE jobs_created gauge\njobs_created 1.7e9\n"
    assert [(point.name, point.value, point.start) for point in decoded(body).parts[0].points] == [
        ("jobs_total", 3, 1.7e9)
    ]
    assert decoded("# TYPE jobs counter\njobs_created 1.7e9").parts[0].points == []


# -- histograms --------------------------------------------------------------------------------------------------------

BUCKETS = ['w_bucket{le="0.1"} 1', 'w_bucket{le="1"} 3']
INFINITE = 'w_bucket{le="+Inf"} 4'


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([*BUCKETS, INFINITE], Observed(4, 0, {0.1: 1, 1: 2})),
        ([*BUCKETS, INFINITE, "w_sum 2.5"], Observed(4, 2.5, {0.1: 1, 1: 2})),
        (["w_sum 2.5", "w_count 4", *BUCKETS], Observed(4, 2.5, {0.1: 1, 1: 2})),
        ([*reversed(BUCKETS), "w_count 4"], Observed(4, 0, {0.1: 1, 1: 2})),
        ([INFINITE], Observed(4, 0, {})),
        (["w_count 4", "w_sum 2.5"], Observed(4, 2.5, {})),
        ([*BUCKETS, 'w_bucket{le="Inf"} 4'], Observed(4, 0, {0.1: 1, 1: 2})),
        (['w_bucket{le="-1"} 2', INFINITE], Observed(4, 0, {-1: 2})),
        ([*BUCKETS, INFINITE, "w_count 3"], Observed(4, 0, {0.1: 1, 1: 2})),
    ],
    ids=["buckets", "sum", "no +Inf", "no order", "only +Inf", "count and sum", "Inf", "negative", "read meanwhile"],
)
def test_a_histogram_has_the_count_of_its_last_bucket(lines: list[str], expected: Observed) -> None:
    body = "\n".join(["# TYPE w histogram", *lines])
    assert points(body) == {"w": ("histogram", expected)}
    assert rejected(body) == {}


def test_a_histogram_that_only_has_buckets_is_counted_and_grows(prometheus: Folded) -> None:
    for second, counts in enumerate(((1, 3, 4), (1, 5, 9))):
        lines = [f'w_bucket{{le="{le}"}} {count}' for le, count in zip(("0.1", "1", "+Inf"), counts, strict=True)]
        prometheus.take("\n".join(["# TYPE w histogram", *lines]).encode(), published_at=NOW + second, now=NOW + 5)
    assert prometheus.value("w_bucket", le="1.0") == 5
    assert prometheus.value("w_count") == 9
    assert prometheus.rejected() == {}


def test_a_histogram_of_one_bucket_is_a_family_of_its_own(prometheus: Folded) -> None:
    for second, body in enumerate((b"w_count 2\nw_sum 3", b'w_bucket{le="+Inf"} 5\nw_sum 4')):
        prometheus.take(b"# TYPE w histogram\n" + body, published_at=NOW + second, now=NOW + 5)
    assert prometheus.value("w_bucket", le="+Inf") == 5
    assert prometheus.value("w_bucket", le="0.005") is None
    assert (prometheus.value("w_sum"), prometheus.value("w_count")) == (4, 5)
    assert prometheus.rejected() == {}


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["# TYPE w histogram", *BUCKETS], "missing_count"),
        (["# TYPE w histogram", "w_sum 3"], "missing_count"),
        (["# TYPE w summary", 'w{quantile="0.5"} 3', 'w{quantile="0.9"} 4'], "missing_count"),
        (["# TYPE w histogram", "w_count 1", "w_bucket 1"], "invalid_label"),
        (["# TYPE w histogram", "w_count 1", 'w_bucket{le="x"} 1'], "invalid_label"),
        (["# TYPE w histogram", "w_count 1", 'w_bucket{le="NaN"} 1'], "invalid_label"),
        (["# TYPE w histogram", "w_count 1", 'w_bucket{le="1_0"} 1'], "invalid_label"),
        (["# TYPE w histogram", "w_count 1", "w_count 2"], "duplicate_sample"),
        (["# TYPE w histogram", "w_count 1", *BUCKETS[:1], 'w_bucket{le="0.10"} 0'], "duplicate_sample"),
    ],
)
def test_a_part_that_cant_be_counted_is_told(lines: list[str], reason: str) -> None:
    assert rejected("\n".join(lines)) == {reason: 1}


@pytest.mark.parametrize("counts", [(3, 1, 4), (1, 5, 4)], ids=["falls", "beyond the last"])
def test_buckets_that_fall_are_told(counts: tuple[int, ...], prometheus: Folded) -> None:
    lines = [f'w_bucket{{le="{le}"}} {count}' for le, count in zip(("0.1", "1", "+Inf"), counts, strict=True)]
    prometheus.take("\n".join(["# TYPE w histogram", *lines]).encode())
    assert sum(prometheus.rejected().values()) == 1
    assert prometheus.value("w_count") is None


# -- repetitions and times ---------------------------------------------------------------------------------------------


def test_the_first_of_two_values_of_a_series_counts() -> None:
    body = 'x{a="1",b="2"} 5\nx{b="2",a="1"} 6\nx{a="1",b="2"} 5'
    assert labelled(body) == [("x", {"a": "1", "b": "2"}, 5)]
    assert rejected(body) == {"duplicate_sample": 1}


def test_a_value_that_is_no_number_is_told_once(prometheus: Folded) -> None:
    prometheus.take(b"# TYPE x gauge\nx NaN\n# TYPE y counter\ny NaN\n# TYPE z summary\nz_sum NaN\nz_count 0\nok 1\n")
    assert prometheus.rejected() == {"non_finite": 3}
    assert prometheus.value("ok") == 1


def test_the_latest_of_a_series_readings_counts() -> None:
    body = "# TYPE x gauge\nx 1 1700000001000\nx 3 1700000003000\nx 2 1700000002000"
    (point,) = decoded(body).parts[0].points
    assert (point.value, point.at) == (3, 1_700_000_003)
    assert rejected(body) == {}


@pytest.mark.parametrize(
    ("content_type", "end", "at"),
    [
        ("text/plain; version=0.0.4", "", 1_700_000),
        (OPENMETRICS, "# EOF", 1_700_000_000),
        ("Application/OpenMetrics-Text", "", 1_700_000_000),
        (None, "", 1_700_000),
        (None, "# EOF\n", 1_700_000_000),
        ("text/plain; version=1.0.0", "# EOF\n", 1_700_000),
    ],
)
def test_a_time_is_in_milliseconds_or_in_openmetrics_seconds(content_type: str | None, end: str, at: float) -> None:
    (point,) = decoded(f"x 1 1700000000\n{end}", content_type).parts[0].points
    assert point.at == at


# -- lines -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "# TYPE x counter\r\nx 3\r\n",
        "\ufeff# TYPE x counter\nx 3",
        "\ufeff# TYPE x counter\r\n\r\nx 3\r\n# EOF\r\n",
        "\u200b# TYPE x counter\n\u200bx 3\u200b",
        "\u00a0# TYPE x counter\u00a0\n\u00a0x\u00a03\u00a0",
        "  # TYPE x counter  \n\tx 3 \t",
        "#  TYPE\tx   counter\nx\t\t3",
        "# TYPE x COUNTER\nx 3",
        "#TYPE x counter\nx 3",
        "# HELP x # TYPE x gauge\n# TYPE x counter\n# a remark\n#\nx 3\n\0",
    ],
)
def test_blanks_that_nobody_sees_belong_to_nothing(body: str) -> None:
    assert points(body) == {"x_total": ("counter", 3)}
    assert rejected(body) == {}


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        ('x{a="b", } 1', {"a": "b"}),
        ('x{a="b",} 1', {"a": "b"}),
        ("x{} 1", {}),
        ("x{ } 1", {}),
        ('x { a = "b" , c = "d" } 1', {"a": "b", "c": "d"}),
        ('x{a="b"}1', {"a": "b"}),
        ('x{a="# {b=\\"c\\"} 9"} 1', {"a": '# {b="c"} 9'}),
        ('x{a="}",b="{"} 1', {"a": "}", "b": "{"}),
        ('x{a="b # c"} 1 # {d="}"} 5', {"a": "b # c"}),
        ('x{a="\\\\"} 1', {"a": "\\"}),
        ('x{a="\\n\\q"} 1', {"a": "\n\\q"}),
        ('x{a=",b=\\""} 1', {"a": ',b="'}),
        ('x{a="\u00e9 \u00a0"} 1', {"a": "\u00e9 \u00a0"}),
        ('x{"a.b"="c"} 1', {"a.b": "c"}),
        ('x 1 # {a="b"} 5 1700000000', {}),
        ("x 1 1700000000000 # {} 5", {}),
        ("x +1.0e0", {}),
    ],
)
def test_a_sample_has_the_labels_in_its_braces(line: str, labels: dict[str, str]) -> None:
    assert labelled(line) == [("x", labels, 1)]
    assert rejected(line) == {}


@pytest.mark.parametrize(
    "line",
    [
        'x{a="b",,} 1', 'x{,a="b"} 1', 'x{a="b"c="d"} 1', "x{a='b'} 1", "x{a=b} 1", 'x{a="b",a="c"} 1', "x{a} 1",
        'x{"a"} 1', '{a="b"} 1', '{""} 1', 'x{""="b"} 1', 'x{1a="b"} 1', 'x{a="b} 1', 'x{a="b"', 'x{a="b"} ',
        "x+1", "x", "x 0x1", "x 1 2 3", "x 1 # remark", 'x 1 # {a="b" 5', "x 1,5", "\u0661 1", "x \u0661", "x.y 1",
        "# TYPE x", "# TYPE x a b",
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_told_and_costs_no_other(line: str) -> None:
    body = f"good 1\n{line}\nbetter 2"
    assert points(body) == {"good": (None, 1), "better": (None, 2)}
    assert rejected(body) == {"invalid_exposition": 1}


def test_a_rejected_line_is_kept_with_what_is_known_of_it() -> None:
    rejections = decoded('good 1\nbad{a="b" 1\n# TYPE w histogram\nw_bucket{le="x"} 7').parts[0].rejections
    assert rejections is not None
    assert {reason: [tuple(stated) for _, stated in last] for reason, last in rejections.last.items()} == {
        "invalid_exposition": [("bad", {}, None)],
        "invalid_label": [("w_bucket", {"le": "x"}, 7)],
    }


def test_a_body_without_a_good_line_is_no_envelope() -> None:
    with pytest.raises(EnvelopeError, match="invalid_exposition"):
        decoded("x\ny\n")
    assert decoded("# EOF\n").parts[0].points == []
    assert decoded("# HELP x y\n# TYPE x counter\n").parts[0].points == []


@pytest.mark.parametrize(
    "line",
    [
        'a{l="' + '\\"' * 400_000,
        'a{l="' + '\\"' * 400_000 + '"} x',
        "a{" + 'l="v",' * 150_000 + "} 1",
        "a{" + '"' * 900_001 + "} 1",
        "# TYPE" + " " * 900_000 + "x",
        "a 1 # {" + '"x",' * 200_000,
        "a" + "{" * 900_000,
    ],
    ids=["open text", "value", "labels", "quotes", "type", "exemplar", "braces"],
)
def test_a_line_as_long_as_a_body_is_read_in_one_pass(line: str) -> None:
    with pytest.raises(EnvelopeError, match="invalid_exposition"):
        decoded(line)


def test_as_many_labels_as_a_body_holds_are_read_in_one_pass() -> None:
    assert len(labelled("a{" + ",".join(f'l{number}="v"' for number in range(90_000)) + "} 1")[0][1]) == 90_000


# -- names in UTF-8 ----------------------------------------------------------------------------------------------------


def test_a_quoted_name_is_exposed_with_underscores(prometheus: Folded) -> None:
    prometheus.take(
        b'# TYPE "my.requests" counter\n{"my.requests_total","http.route"="/v1"} 4\n'
        b'# TYPE "my.wait" histogram\n{"my.wait_bucket",le="+Inf"} 2\n{"my.wait_sum"} 3\n'
        b'{label="x","my.name"} 5\n{"5 \xc3\xa9"} 6\n'
    )
    assert prometheus.value("my_requests_total", http_route="/v1") == 4
    assert prometheus.value("my_wait_bucket", le="+Inf") == 2
    assert prometheus.value("my_name", label="x") == 5
    assert prometheus.value("_5__") == 6
    assert prometheus.rejected() == {}


@pytest.mark.parametrize("escaping", ["allow-utf-8", "dots", "values", "underscores"])
def test_names_are_the_same_however_prometheus_client_escapes_them(escaping: str, prometheus: Folded) -> None:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("my.requests_done", "Done", ["http.route_x"], registry=registry).labels("/v1").inc(4)
    waits = prometheus_client.Histogram("my.wait_s", "Waits", ["a_dot_b"], buckets=[1], registry=registry)
    waits.labels("x").observe(2)
    content_type = f"text/plain; version=1.0.0; charset=utf-8; escaping={escaping}"
    prometheus.take(prometheus_client.generate_latest(registry, escaping), content_type=content_type, now=1e10)
    assert prometheus.value("my_requests_done_total", http_route_x="/v1") == 4
    assert prometheus.value("my_wait_s_bucket", a_dot_b="x", le="1.0") == 0
    assert prometheus.value("my_wait_s_count", a_dot_b="x") == 1
    assert prometheus.rejected() == {}


@pytest.mark.parametrize("name", ["x_d800_", "U__x_d800_", "U__x_ffffff_", "U__x_2"])
def test_a_code_point_that_no_character_has_stays_as_it_is(name: str) -> None:
    found = points(f"{name} 1", "text/plain; version=1.0.0; escaping=values")
    assert found == {name.removeprefix("U__"): (None, 1)}


# -- content types -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        prometheus_client.CONTENT_TYPE_LATEST,
        openmetrics.CONTENT_TYPE_LATEST,
        "text/plain; version=0.0.4",
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
        "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
        "text/plain;charset=utf-8;version=1.0.0",
        'Text/Plain; VERSION="1.0.0"',
        "application/openmetrics-text",
        "application/openmetrics-text; version=0.0.1; charset=utf-8",
        "application/openmetrics-text; version=1.0.0; escaping=values",
    ],
)
def test_prometheus_own_content_types_choose_the_decoder(content_type: str) -> None:
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key="a.b")
    delivery = Delivery.from_pika(method, BasicProperties(content_type=content_type), b"# TYPE x counter\nx_total 3\n")
    envelope = Formats((), "q", 1 << 20).decode(delivery)
    assert [(point.family, point.value) for point in envelope.parts[0].points] == [("x_total", 3)]
