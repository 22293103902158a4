from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

from busmon.catalogue import Catalogue, Family
from busmon.catalogue.family import DEFAULT_BUCKETS, MAX_BOUNDED_SERIES

STOCK = {"counter": Counter, "gauge": Gauge, "histogram": Histogram, "summary": Summary}


def family(type_: str, name: str = "tasks", **values: tuple[str, ...]) -> Family:
    return Family(name, type_, "Tasks", tuple(values), values={label: v for label, v in values.items() if v})


def stock(family: Family) -> tuple[Any, MetricWrapperBase]:
    registry = CollectorRegistry()
    return registry, STOCK[family.type](family.name, family.help, family.labelnames, registry=registry)


@pytest.mark.parametrize("family", Catalogue.load().families.values(), ids=lambda family: family.name)
def test_a_family_occupies_the_names_that_prometheus_client_reserves(family: Family) -> None:
    registry, metric = stock(family)
    assert set(family.exposed) == set(registry._get_names(metric))


@pytest.mark.parametrize("name", ["hits", "hits_total"])
def test_a_counter_is_exposed_with_total_whether_its_name_says_so_or_not(name: str) -> None:
    counter = family("counter", name)
    _, metric = stock(counter)
    assert counter.metric_name == metric._name == "hits"
    assert "hits_total" in counter.exposed


def test_another_types_total_stays() -> None:
    assert family("gauge", "hits_total").metric_name == "hits_total"


def test_default_buckets_are_prometheus_clients() -> None:
    assert (*DEFAULT_BUCKETS, float("inf")) == Histogram.DEFAULT_BUCKETS


def test_every_combination_of_enumerated_labels_is_bounded() -> None:
    counter = family("counter", kind=("a", "b"), status=("ok", "bad"))
    assert list(counter.list_bounded_series()) == [("a", "ok"), ("a", "bad"), ("b", "ok"), ("b", "bad")]


@pytest.mark.parametrize("type_", ["counter", "histogram", "summary"])
def test_a_family_without_labels_is_one_bounded_series(type_: str) -> None:
    assert list(family(type_).list_bounded_series()) == [()]


def test_one_open_label_leaves_nothing_bounded() -> None:
    assert list(family("counter", agent=(), status=("ok", "bad")).list_bounded_series()) == []


def test_a_gauge_is_never_0_before_somebody_reads_it() -> None:
    assert list(family("gauge", status=("ok", "bad")).list_bounded_series()) == []
    assert list(family("gauge").list_bounded_series()) == []


def test_too_many_combinations_are_not_made() -> None:
    many = tuple(map(str, range(MAX_BOUNDED_SERIES)))
    assert len(list(family("counter", a=many, b=("1",)).list_bounded_series())) == MAX_BOUNDED_SERIES
    assert list(family("counter", a=many, b=("1", "2")).list_bounded_series()) == []


def test_a_family_can_be_a_key() -> None:
    assert len({family("counter", status=("ok",)), family("counter", status=("ok",))}) == 1


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("task_duration_seconds", "seconds"),
        ("agent_cpu_seconds_total", "seconds"),
        ("cpu_usage_percent", "percent"),
        ("tasks_processed_total", ""),
        ("queue_size", ""),
    ],
)
def test_the_unit_stands_in_the_name(name: str, unit: str) -> None:
    assert Family(name, "gauge", "A").unit == unit
