"""A summary's quantiles in a scrape: of the window, over all shards, within the sketch's error."""

import random
from math import ceil
from pathlib import Path

import pytest

from busmon.registry.scrape.exposition import Exposition
from busmon.registry.series.sketch import RELATIVE_ERROR, WINDOW
from tests.unit.registry.registries import CATALOGUE, NOW, Registry, parsed, series

NAME = "request_size_bytes"


def quantiles(text: bytes) -> dict[str, float]:
    return {dict(labels)["quantile"]: value for (name, labels), value in parsed(text).items() if name == NAME}


def test_they_are_those_of_all_shards_within_one_percent(tmp_path: Path) -> None:
    values = sorted(random.Random(7).lognormvariate(5, 2) for _ in range(1000))
    exposition = Exposition(tmp_path, CATALOGUE, lambda: NOW)
    for number in range(3):
        with Registry(tmp_path, number) as registry:
            registry.fold({"name": NAME, "values": values[number::3]})
            registry.commit()
    found = quantiles(exposition.text())
    assert [*found] == ["0.5", "0.9", "0.95", "0.99"]
    for q, value in found.items():
        exact = values[ceil(float(q) * (len(values) - 1))], values[int(float(q) * (len(values) - 1))]
        assert min(exact) * (1 - RELATIVE_ERROR) <= value <= max(exact) * (1 + RELATIVE_ERROR)


def test_they_move_on_with_the_window_without_any_change(tmp_path: Path) -> None:
    now = NOW
    exposition = Exposition(tmp_path, CATALOGUE, lambda: now)
    with Registry(tmp_path) as registry:
        registry.fold({"name": NAME, "values": [5.0] * 3}, now=NOW)
        registry.fold({"name": NAME, "values": [800.0]}, now=NOW + WINDOW.step_seconds)
        registry.commit()
    now = NOW + WINDOW.step_seconds
    assert quantiles(exposition.text())["0.5"] == pytest.approx(5, rel=RELATIVE_ERROR)
    now = NOW + WINDOW.seconds + WINDOW.step_seconds
    assert quantiles(exposition.text())["0.5"] == pytest.approx(800, rel=RELATIVE_ERROR)
    now += WINDOW.step_seconds
    assert all(value != value for value in quantiles(exposition.text()).values())  # noqa: PLR0124 - only NaN isn't itself
    assert parsed(exposition.text())[series(f"{NAME}_count")] == 4


@pytest.mark.parametrize("ahead", [90_007.0, -90_007.0])
def test_a_shard_of_another_clock_has_the_window_of_its_owner(tmp_path: Path, ahead: float) -> None:
    now = NOW + ahead
    exposition = Exposition(tmp_path, CATALOGUE, lambda: now, {"shard0": ahead})
    with Registry(tmp_path) as registry, Registry(tmp_path, 1) as equal:
        registry.fold({"name": NAME, "values": [5.0] * 3}, now=NOW)
        registry.commit()
        equal.fold({"name": NAME, "values": [800.0]}, now=now + WINDOW.seconds)
        equal.commit()
    assert quantiles(exposition.text())["0.99"] == pytest.approx(5, rel=RELATIVE_ERROR)
    now += WINDOW.seconds + WINDOW.step_seconds
    assert quantiles(exposition.text())["0.5"] == pytest.approx(800, rel=RELATIVE_ERROR)


def test_without_a_catalogue_there_are_none(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold({"name": NAME, "values": [5.0]})
        registry.commit()
    assert quantiles(Exposition(tmp_path).text()) == {}


def test_openmetrics_has_the_same(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path, CATALOGUE, lambda: NOW)
    with Registry(tmp_path) as registry:
        registry.fold({"name": NAME, "values": [5.0]})
        registry.commit()
    lines = [line for line in exposition.text().splitlines() if line.startswith(NAME.encode())]
    assert lines == [line for line in exposition.openmetrics().splitlines() if line.startswith(NAME.encode())]
