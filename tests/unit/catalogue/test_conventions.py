import shutil
import subprocess
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

from busmon.catalogue import Catalogue, Family
from busmon.catalogue.conventions import Finding, check, exceptions
from busmon.catalogue.family import MAX_BOUNDED_SERIES

BUILT_IN = Catalogue.load()
STOCK = {"counter": Counter, "gauge": Gauge, "histogram": Histogram, "summary": Summary}
PROMTOOL = shutil.which("promtool")

MANY = tuple(map(str, range(11)))

BREAKERS = {
    "snake-case": [Family("queueSize", "gauge", "A"), Family("a__b", "gauge", "A"), Family("a", "gauge", "A", ("Bc",))],
    "total-suffix": [Family("hits", "counter", "A"), Family("hits_total", "gauge", "A")],
    "reserved-suffix": [
        Family("hits_count", "gauge", "A"),
        Family("hits_sum_total", "counter", "A"),
        Family("hits_bucket", "histogram", "A"),
        Family("hits_created", "summary", "A"),
    ],
    "type-in-name": [Family("hits_gauge", "gauge", "A"), Family("counter_of_hits_total", "counter", "A")],
    "label-in-name": [Family("hits_by_status_total", "counter", "A", ("status",))],
    "base-unit": [
        Family("wait_milliseconds", "gauge", "A"),
        Family("wait_minutes", "gauge", "A"),
        Family("size_mebibits", "gauge", "A"),
        Family("load_percent", "gauge", "A"),
    ],
    "unit-last": [Family("seconds_waited", "gauge", "A"), Family("bytes_sent_total", "counter", "A")],
    "abbreviated-unit": [Family("wait_ms", "gauge", "A"), Family("size_kb_total", "counter", "A")],
    "unbounded-label": [Family("hits_total", "counter", "A", ("user_id",)), Family("a", "gauge", "A", ("email",))],
    "many-values": [Family("hits_total", "counter", "A", ("kind",), values={"kind": MANY})],
    "many-series": [
        Family("hits_total", "counter", "A", ("a", "b", "c", "d"), values=dict.fromkeys("abcd", MANY[:10])),
    ],
}


def catalogue(*families: Family) -> Catalogue:
    return Catalogue({f.name: f for f in families}, {f.name: Path("search.toml") for f in families}, {})


def test_the_built_in_families_break_no_convention_but_what_is_excepted() -> None:
    assert check(BUILT_IN) == []


@pytest.mark.parametrize(
    ("rule", "family"), [pytest.param(rule, f, id=f"{rule} {f.name}") for rule, fs in BREAKERS.items() for f in fs]
)
def test_a_broken_convention_is_found(rule: str, family: Family) -> None:
    assert rule in {finding.rule for finding in check(catalogue(family))}


def test_a_finding_names_file_key_problem_and_rule() -> None:
    (finding,) = check(catalogue(Family("hits", "counter", "A")))
    problem = "a counter's name ends with _total; it is exposed as hits_total anyway"
    assert str(finding) == f"search.toml: counter.hits: {problem} [total-suffix]"


def test_a_label_is_named_with_its_key() -> None:
    (finding,) = check(catalogue(Family("hits_total", "counter", "A", ("user_id",))))
    assert isinstance(finding, Finding)
    assert finding.key == "counter.hits_total.labels"


def test_every_exception_has_a_reason_and_is_still_needed() -> None:
    for rule, names in exceptions().items():
        for name, reason in names.items():
            assert reason
            renamed = replace(BUILT_IN.families[name], name=f"x{name}")
            assert rule in {finding.rule for finding in check(catalogue(renamed))}


@pytest.mark.parametrize("count", [0, 1])
def test_as_many_series_as_are_made_are_no_finding(count: int) -> None:
    values = {"a": tuple(map(str, range(MAX_BOUNDED_SERIES + count)))}
    rules = {f.rule for f in check(catalogue(Family("hits_total", "counter", "A", ("a",), values=values)))}
    assert ("many-series" in rules) is bool(count)


# -- promtool --------------------------------------------------------------------------------------------------------


def complaints(*families: Family) -> set[str]:
    """The families that `promtool check metrics` has something to say about."""
    registry = CollectorRegistry()
    for family in families:
        metric = STOCK[family.type](family.name, family.help, family.labelnames, registry=registry)
        if family.labelnames:
            metric.labels(*family.labelnames)
    promtool = [PROMTOOL or "promtool", "check", "metrics"]
    run = subprocess.run(promtool, input=generate_latest(registry), capture_output=True, check=False)
    assert run.returncode in {0, 3}, run.stderr
    named = {line.split(" ")[0] for line in run.stderr.decode().splitlines()}
    return {family.name for family in families if named & set(family.exposed)}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
def test_promtool_finds_only_what_is_excepted() -> None:
    excepted = {name for names in exceptions().values() for name in names}
    assert complaints(*BUILT_IN.families.values()) <= excepted


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize("family", list(chain(*BREAKERS.values())), ids=lambda family: family.name)
def test_what_promtool_finds_is_found(family: Family) -> None:
    assert not complaints(family) or check(catalogue(family))
