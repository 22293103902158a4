"""StatsD, Influx and Prometheus lines: what each is counted as."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import EnvelopeError
from busmon.wire.arrival import MAX_PARTS, Arrival
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import NOW

from .folded import Folded
from .producers import EXPOSITION, INFLUX, STATSD

CATALOGUE = """
[counter.bytes_received_total]
help = "Bytes received"
labels = ["host"]

[summary.render_seconds]
help = "Time to render a page"
labels = ["page"]

[[mappings]]
match = "net.bytes_recv"
name = "bytes_received_total"

[[mappings]]
match = "page.*.render"
name = "render_seconds"
labels = { page = "$1" }
"""

LARGEST = (1 << 20) - 100
"""Characters that leave some room in a body."""

Open = Callable[[str], Folded]


@pytest.fixture
def folded(tmp_path: Path) -> Iterator[Open]:
    path = tmp_path / "catalogue.toml"
    path.write_text(CATALOGUE)
    (tmp_path / "registry").mkdir()
    opened: list[Folded] = []

    def open_(format_: str) -> Folded:
        opened.append(Folded(tmp_path / "registry", format_, catalogue=Catalogue.load([path])))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def test_statsd_lines_are_counted_by_their_types(folded: Open) -> None:
    statsd = folded("statsd")
    statsd.take(STATSD, app_id="web")
    assert statsd.value("hits_total", agent="web") == 31  # its first line has no tags, so they are added up over
    assert statsd.rejected() == {"statsd_event": 1}
    assert statsd.value("page_render_count", agent="web") == 2
    assert statsd.value("page_render_sum", agent="web") == 0.64
    assert statsd.value("size_sum", agent="web", env="prod") == 6
    assert statsd.value("users", agent="web") == 2
    assert statsd.value("load", agent="web") == -2


def test_a_sampled_counter_counts_what_its_sample_stands_for(folded: Open) -> None:
    statsd = folded("statsd")
    statsd.take(b"hits:3|c|@0.1|#method:GET\nhits,method=GET:1|c\n")
    assert statsd.value("hits_total", method="GET") == 31


def test_a_timer_may_be_a_summary_whose_page_is_in_its_name(folded: Open) -> None:
    statsd = folded("statsd")
    statsd.take(b"page.start.render:250|ms\npage.start.render:0.75|h\n")
    assert statsd.value("render_seconds_count", page="start") == 2
    assert statsd.value("render_seconds_sum", page="start") == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a|c", "invalid_statsd"),
        (b"a:1", "invalid_statsd"),
        (b"a:1|", "invalid_type"),
        (b"a:1|q", "invalid_type"),
        (b":1|c", "invalid_name"),
        (b",a=b:1|c", "invalid_name"),
        (b"\xe2\x80\x8b:1|c", "invalid_name"),
        (b"job:3:ann|s", "invalid_name"),
        (b"a:x|c", "invalid_value"),
        (b"a:|g", "invalid_value"),
        (b"a:1_0|c", "invalid_value"),
        (b"a:0x10|c", "invalid_value"),
        (b"a:\xd9\xa1|c", "invalid_value"),
        (b"a:1:x|d", "invalid_value"),
        (b"a:nan|c", "non_finite"),
        (b"a:-Inf|g", "non_finite"),
        (b"a:1:nan:2|d", "non_finite"),
        (b"a:1|c|@0", "invalid_rate"),
        (b"a:1|c|@2", "invalid_rate"),
        (b"a:1|c|@nan", "invalid_rate"),
        (b"a:1|c|@", "invalid_rate"),
        (b"a:1|c|Tnow", "invalid_timestamp"),
    ],
)
def test_a_line_that_is_no_statsd_is_counted_and_its_neighbours_are_folded(
    line: bytes, reason: str, folded: Open
) -> None:
    statsd = folded("statsd")
    statsd.take(b"good:1|c\n" + line + b"\n")
    assert statsd.value("good_total") == 1
    assert statsd.rejected() == {reason: 1}
    with pytest.raises(EnvelopeError, match=f"invalid_statsd: .*{reason}"):
        DECODERS["statsd"](Arrival(line, None, None, 1000))


def test_influx_fields_are_named_by_measurement_and_field(folded: Open) -> None:
    influx = folded("influx")
    influx.take(INFLUX)
    assert influx.value("cpu_usage_idle", host="web 1", cpu="cpu0") == 98.5
    assert influx.value("cpu_usage_user", host="web 1", cpu="cpu0") == 1
    assert influx.value("cpu_ok", host="web 1", cpu="cpu0") == 1
    assert influx.value("bytes_received_total", host="db,1") == 12
    assert influx.value("http_requests_total", url="/x", host="a") == 7
    assert influx.rejected() == {}


def test_totals_of_telegraf_grow_by_what_is_new(folded: Open) -> None:
    influx = folded("influx")
    for second, total in enumerate((100, 150, 150, 20), start=1):
        influx.take(b"net,host=a bytes_recv=%di %d" % (total, 1_700_000_000_000_000_000 + second))
        influx.take(b"net,host=b bytes_recv=%di %d" % (total, 1_700_000_000_000_000_000 + second * 1000))
    assert influx.value("bytes_received_total", host="b") == 170


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a", "invalid_influx"),
        (b"a b", "invalid_influx"),
        (b"a b=", "invalid_influx"),
        (b"a b=1,", "invalid_influx"),
        (b"a,b c=1", "invalid_influx"),
        (b",a b=1", "invalid_influx"),
        (b'a b="x', "invalid_influx"),
        (b'a b="x"y', "invalid_influx"),
        (b"a b=x", "invalid_value"),
        (b"a b=1.5i", "invalid_value"),
        (b"a b=-1u", "invalid_value"),
        (b"a b=0x10", "invalid_value"),
        (b"a b=NaN", "non_finite"),
        (b"a b=1 x", "invalid_timestamp"),
        (b"a b=1 1_0", "invalid_timestamp"),
        (b"a b=1 1 2", "invalid_timestamp"),
    ],
)
def test_a_line_that_is_no_influx_is_counted_and_its_neighbours_are_folded(
    line: bytes, reason: str, folded: Open
) -> None:
    influx = folded("influx")
    influx.take(b"good value=1\n" + line + b"\n")
    assert influx.value("good") == 1
    assert influx.rejected() == {reason: 1}
    with pytest.raises(EnvelopeError, match=f"invalid_influx: .*{reason}"):
        DECODERS["influx"](Arrival(line, None, None, 1000))


def test_influx_lines_are_known_by_their_bytes_where_each_has_its_time() -> None:
    decode = DECODERS["influx"]
    assert decode(Arrival(INFLUX, None, None, 1000)).identity == decode(Arrival(INFLUX, None, None, 1000)).identity
    assert decode(Arrival(INFLUX, None, None, 1000)).identity is not None
    assert decode(Arrival(b"a b=1", None, None, 1000)).identity is None
    assert DECODERS["statsd"](Arrival(b"hits:1|c|T1700000000", None, None, 1000)).identity is None


def test_each_host_is_a_source() -> None:
    envelope = DECODERS["influx"](Arrival(INFLUX, None, None, 1000))
    assert [part.source for part in envelope.parts] == ["web 1", "db,1", "a"]


def test_a_snapshot_is_counted_from_when_it_was_created(folded: Open) -> None:
    prometheus = folded("prometheus")
    for second in range(2):
        prometheus.take(EXPOSITION, headers={"job": "backup"}, published_at=NOW + second, now=NOW + 5)
    assert prometheus.value("jobs_done_total", agent="backup", queue='a"b\\c') == 3
    assert prometheus.value("wait_seconds_bucket", agent="backup", le="1.0") == 3
    assert prometheus.value("wait_seconds_bucket", agent="backup", le="+Inf") == 4
    assert prometheus.value("wait_seconds_sum", agent="backup") == 5.5
    assert prometheus.value("size_bytes_count", agent="backup") == 10
    assert prometheus.value("size_bytes_sum", agent="backup") == 30
    assert prometheus.rejected() == {}


def test_a_snapshot_that_comes_again_or_late_adds_nothing(folded: Open) -> None:
    prometheus = folded("prometheus")
    for second, total in ((1, 5), (3, 9), (1, 5), (2, 7), (3, 9)):
        body = b"# TYPE jobs counter\njobs_total %d\n# EOF\n" % total
        prometheus.take(body, content_type="application/openmetrics-text", published_at=NOW + second, now=NOW + 9)
    assert prometheus.value("jobs_total") == 9
    assert prometheus.rejected() == {"stale_total": 3}


@pytest.mark.parametrize("line", [b"1a 1", b"a", b"a x", b"a{b=c} 1", b"a 1_0", b'a{b="c} 1', b"a 1 2 3", b"{} 1"])
def test_a_line_that_is_no_exposition_is_counted_and_its_neighbours_are_folded(line: bytes, folded: Open) -> None:
    prometheus = folded("prometheus")
    prometheus.take(b"good 1\n" + line + b"\n")
    assert prometheus.value("good") == 1
    assert prometheus.rejected() == {"invalid_exposition": 1}


@pytest.mark.parametrize("format_", ["statsd", "influx", "prometheus"])
def test_lines_that_are_not_utf8_are_refused(format_: str) -> None:
    with pytest.raises(EnvelopeError, match="invalid_text"):
        DECODERS[format_](Arrival(b"a:1|c\xff", None, None, 1000))


@pytest.mark.parametrize(
    "line",
    [b"a" + b" " * LARGEST + b"_", b"a{" + b"}" * LARGEST + b"_", b"a" * LARGEST + b" b c_"],
    ids=["blank", "brace", "name"],
)
def test_a_line_as_long_as_a_body_is_known_in_one_pass_to_be_none(line: bytes) -> None:
    with pytest.raises(EnvelopeError, match="invalid_exposition"):
        DECODERS["prometheus"](Arrival(line, None, None, 1 << 20))


@pytest.mark.parametrize(
    "line", [b"x:" + b":".join([b"1e308"] * 9) + b"|%s" % type_ for type_ in (b"c|#a:b", b"d", b"c|@0.1|#")]
)
def test_statsd_values_that_are_too_large_together_are_rejected(line: bytes, folded: Open) -> None:
    statsd = folded("statsd")
    statsd.take(b"good:1|c\n" + line)
    assert statsd.rejected() == {"non_finite": 1}
    assert statsd.value("good_total") == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a b=1 " + b"9" * 400, "invalid_timestamp"),
        (b"a b=" + b"9" * 400 + b"i", "invalid_value"),
        (b"a" * 300 + b" " + b",".join(b"f%d=1" % number for number in range(9)), "invalid_name"),
        (b"a," + b",".join(b"t%d=x" % number for number in range(65)) + b" b=1,c=2", "invalid_label"),
    ],
    ids=["time", "integer", "measurement", "tags"],
)
def test_an_influx_line_out_of_bounds_costs_itself(line: bytes, reason: str, folded: Open) -> None:
    influx = folded("influx")
    influx.take(b"good value=1\n" + line)
    assert influx.value("good") == 1
    assert influx.rejected() == {reason: 1}


def test_a_body_has_so_many_sources_at_most() -> None:
    hosts = b"\n".join(b"a,host=%d b=1" % number for number in range(MAX_PARTS + 1))
    with pytest.raises(EnvelopeError, match="sources"):
        DECODERS["influx"](Arrival(hosts, None, None, 1 << 20))


def test_names_and_labels_too_long_to_be_remembered_are_rejected(folded: Open) -> None:
    statsd = folded("statsd")
    statsd.take(b"good:1|c\n" + b"x" * 256 + b":1|c\ny:1|c|#" + b"l" * 201 + b":v")
    assert statsd.value("good_total") == 1
    assert statsd.rejected() == {"invalid_name": 1, "invalid_label": 1}
