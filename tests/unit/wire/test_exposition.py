"""Prometheus' text and OpenMetrics: the series that a body states, and what is rejected of it with which reason."""

import pytest

from busmon.wire.envelope import Observed
from tests.unit.registry.registries import NOW

from .exposed import OPENMETRICS, decoded, labelled, points, rejected
from .folded import Folded

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
