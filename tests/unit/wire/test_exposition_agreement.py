"""Expositions of prometheus_client are read as by its parsers: names, labels, values, times and families."""

import re
from collections.abc import Iterable, Mapping
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    StateSetMetricFamily,
    SummaryMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text
from prometheus_client.samples import Exemplar, Timestamp

from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Observed, Point
from busmon.wire.exposition_lines import read_sample
from busmon.wire.prometheus_text import decode

Key = tuple[str, tuple[tuple[str, str], ...]]

# -- one line ----------------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"\A[a-zA-Z_:][a-zA-Z0-9_:]{0,8}\Z")
PLAIN = re.compile(r"[a-z][a-zA-Z0-9_]{0,6}")
LABEL_NAMES = st.from_regex(PLAIN, fullmatch=True)
ODD = st.text(alphabet=st.sampled_from('abé" \\\n{}#,=\t/.:'), max_size=10)
TEXTS = ODD | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x1c\x1d\x1e\x85\u2028\u2029\v\f"))
QUOTABLE = st.text(alphabet=st.sampled_from('abé" \\{}#,=./'), min_size=1, max_size=6).filter(str.strip)
NUMBERS = st.floats() | st.integers(-(2**60), 2**60)
BLANKS = st.text(alphabet=" \t", max_size=2)


def quoted(text: str) -> str:
    escaped = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return f'"{escaped}"'


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A sample of the text format, with blanks wherever it may have some."""
    labels = draw(st.dictionaries(LABEL_NAMES | QUOTABLE, TEXTS, max_size=3))
    spelt = {name if PLAIN.fullmatch(name) and draw(st.booleans()) else quoted(name): labels[name] for name in labels}
    pairs = [f"{name}{draw(BLANKS)}={draw(BLANKS)}{quoted(text)}{draw(BLANKS)}" for name, text in spelt.items()]
    name = draw(NAMES)
    if draw(st.booleans()):
        name, pairs = "", [quoted(draw(QUOTABLE)), *pairs]
    comma = draw(st.sampled_from(["", ","])) if pairs else ""
    braced = "{" + draw(BLANKS) + ("," + draw(BLANKS)).join(pairs) + comma + "}"
    has_braces = draw(st.booleans()) or bool(pairs)
    head = f"{name}{braced}" if has_braces else name
    time = draw(st.none() | st.integers(0, 2**42))
    return f"{head} {draw(NUMBERS)!r}" + (f" {time}" if time is not None else "") + draw(BLANKS)


@settings(deadline=None, max_examples=400)
@given(line=lines())
def test_a_line_of_the_text_format_is_read_as_prometheus_client_reads_it(line: str) -> None:
    (family,) = parsed_text(line)
    (stock,) = family.samples
    ours = read_sample(line.strip())
    assert (ours.name, ours.labels, repr(ours.value)) == (stock.name, stock.labels, repr(float(stock.value)))
    assert (None if ours.time is None else ours.time / 1000) == stock.timestamp


# -- whole bodies ------------------------------------------------------------------------------------------------------

COUNTS = st.integers(0, 10**6)
BOUNDS = st.lists(st.floats(-10, 10, allow_nan=False), unique=True, max_size=4).map(sorted)
TIMES = st.none() | st.integers(1, 2**31)


@st.composite
def buckets(draw: st.DrawFn) -> list[tuple[str, float]]:
    bounds, total, found = draw(BOUNDS), 0, []
    for bound in bounds:
        total += draw(COUNTS)
        found.append((repr(bound), float(total)))
    return [*found, ("+Inf", float(total + draw(COUNTS)))]


@st.composite
def families(draw: st.DrawFn) -> list[Metric]:
    """Families of every type with names of their own, as a collector may give them."""
    made = []
    for number, type_ in enumerate(draw(st.lists(st.sampled_from(sorted(MAKERS)), min_size=1, max_size=6))):
        names = draw(st.lists(LABEL_NAMES.filter(lambda name: name not in {"le", "quantile"}), unique=True, max_size=2))
        family = MAKERS[type_](draw, f"{draw(st.sampled_from(STEMS))}{number}", names)
        made.append(family)
    return made


STEMS = ["jobs", "jobs_sum", "a_total_b", "x:y", "waits_bucket_", "my.dotted ", "é"]


def counter(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    family = CounterMetricFamily(name, draw(TEXTS), labels=labelnames)
    for values in draw(series(labelnames)):
        # prometheus_client's parser doesn't read back an exemplar with a quote.
        exemplar = Exemplar({"trace_id": draw(ODD).replace('"', "")}, 1.5, 1.7e9)
        created = draw(TIMES)
        family.add_metric(values, draw(COUNTS), created=created, exemplar=draw(st.sampled_from([None, exemplar])))
    return family


def gauge(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    family = GaugeMetricFamily(name, draw(TEXTS), labels=labelnames)
    for values in draw(series(labelnames)):
        at = draw(TIMES)
        family.add_metric(values, draw(NUMBERS), timestamp=None if at is None else Timestamp(at, 0))
    return family


def unknown(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    family = UnknownMetricFamily(name, draw(TEXTS), labels=labelnames)
    for values in draw(series(labelnames)):
        family.add_metric(values, draw(NUMBERS))
    return family


def histogram(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    family = HistogramMetricFamily(name, draw(TEXTS), labels=labelnames)
    for values in draw(series(labelnames)):
        counts = draw(buckets())
        is_negative = counts[0][0].startswith("-")  # OpenMetrics has no sum then
        family.add_metric(values, counts, sum_value=None if is_negative else float(draw(COUNTS)))
    return family


def gauge_histogram(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    family = GaugeHistogramMetricFamily(name, draw(TEXTS), labels=labelnames)
    for values in draw(series(labelnames)):
        family.add_metric(values, draw(buckets().filter(lambda counts: counts[0][0][0] != "-")), float(draw(COUNTS)))
    return family


def summary(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    family = SummaryMetricFamily(name, draw(TEXTS), labels=labelnames)
    for values in draw(series(labelnames)):
        family.add_metric(values, draw(COUNTS), float(draw(COUNTS)))
    return family


def info(draw: st.DrawFn, name: str, labelnames: list[str]) -> Metric:
    return InfoMetricFamily(name, draw(TEXTS), value={label: draw(TEXTS) for label in labelnames})


def states(draw: st.DrawFn, name: str, _: list[str]) -> Metric:
    return StateSetMetricFamily(name, draw(TEXTS), {"on": draw(st.booleans()), "off": True})


MAKERS = {
    "counter": counter,
    "gauge": gauge,
    "unknown": unknown,
    "histogram": histogram,
    "gauge_histogram": gauge_histogram,
    "summary": summary,
    "info": info,
    "stateset": states,
}


def series(labelnames: list[str]) -> st.SearchStrategy[list[list[str]]]:
    """Label values of the series of a family, each once."""
    values = st.lists(TEXTS, min_size=len(labelnames), max_size=len(labelnames))
    return st.lists(values, unique_by=tuple, min_size=1, max_size=1 if not labelnames else 3)


class Collector:
    def __init__(self, made: Iterable[Metric]) -> None:
        self._made = made

    def collect(self) -> Iterable[Metric]:
        return self._made


def registry_of(made: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Collector(made))
    return registry


def key(name: str, labels: Mapping[str, str]) -> Key:
    return name, tuple(sorted(labels.items()))


def of_stock(found: Iterable[Metric]) -> dict[Key, tuple[str, float | None]]:
    """Value and time of each sample that counts, as prometheus_client's parser has it."""
    samples = [sample for family in found for sample in family.samples if not sample.name.endswith("_created")]
    return {
        key(sample.name, {name: le(text) if name == "le" else text for name, text in sample.labels.items()}): (
            number(sample.value),
            None if sample.timestamp is None else float(sample.timestamp),
        )
        for sample in samples
    }


def number(value: float) -> str:
    """A value as text, since a NaN isn't equal to itself."""
    return repr(float(value))


def le(bound: str) -> str:
    return repr(float(bound))


def of_ours(points: Iterable[Point]) -> dict[Key, tuple[str, float | None]]:
    """The same of our points, histograms as their cumulative samples."""
    found: dict[Key, tuple[str, float | None]] = {}
    for point in points:
        labels = {name: le(text) if name == "le" else text for name, text in point.labels.items()}
        if not isinstance(point.value, Observed):
            assert not isinstance(point.value, list)
            found[key(point.name, labels)] = number(point.value), point.at
            continue
        counted, below = point.value, 0.0
        found[key(f"{point.name}_count", labels)] = number(counted.count), point.at
        found[key(f"{point.name}_sum", labels)] = number(counted.sum), point.at
        for bound, count in counted.buckets.items() if point.type == "histogram" else ():
            below += count
            found[key(f"{point.name}_bucket", {**labels, "le": repr(bound)})] = number(below), point.at
        if point.type == "histogram":
            found[key(f"{point.name}_bucket", {**labels, "le": repr(inf)})] = number(counted.count), point.at
    return found


def points_of(body: bytes, content_type: str) -> list[Point]:
    part = decode(Arrival(body, content_type, None, 1 << 24)).parts[0]
    assert part.rejections is not None
    assert not part.rejections.counts
    return list(part.points)


def agree(ours: dict[Key, tuple[str, float | None]], stock: dict[Key, tuple[str, float | None]]) -> None:
    """A histogram's count and sum may be missing there, where they are its last bucket and 0 here."""
    assert stock.items() <= ours.items()
    assert all(name.endswith(("_count", "_sum")) for name, _ in ours.keys() - stock.keys())


@settings(deadline=None, max_examples=150)
@given(made=families())
def test_a_body_of_the_text_format_is_read_as_prometheus_client_reads_it(made: list[Metric]) -> None:
    body = generate_latest(registry_of(made), "allow-utf-8")
    stock = of_stock(parsed_text(body.decode()))
    agree(of_ours(points_of(body, "text/plain; version=1.0.0")), stock)


@settings(deadline=None, max_examples=150)
@given(made=families())
def test_a_body_of_openmetrics_is_read_as_prometheus_client_reads_it(made: list[Metric]) -> None:
    registry = registry_of(made)
    body = generate_openmetrics(registry, "allow-utf-8", version="1.0.0")  # type: ignore[no-untyped-call]
    stock = of_stock(parsed_openmetrics(body.decode()))  # type: ignore[no-untyped-call]
    agree(of_ours(points_of(body, "application/openmetrics-text; version=1.0.0")), stock)
