"""The lines of Prometheus' text and OpenMetrics: blanks, labels and names, and what is rejected of them."""

import prometheus_client
import pytest
from pika import BasicProperties
from pika.spec import Basic
from prometheus_client.openmetrics import exposition as openmetrics

from busmon.bus.frames.delivery import Delivery
from busmon.errors import EnvelopeError
from busmon.wire.formats import Formats

from .exposed import decoded, labelled, points, rejected
from .folded import Folded

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
