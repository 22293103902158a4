"""A series that is silent for longer than its TTL leaves the scrape, and comes back with its value."""

from pathlib import Path

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.scrape.exposition import Exposition
from tests.unit.registry import stock
from tests.unit.registry.registries import CATALOGUE, NOW, Registry
from tests.unit.registry.stock import Entry, Family

GAUGE_TTL = 300.0
DAY = 86_400.0


class Clock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def depth(queue: str, value: float = 42) -> dict[str, object]:
    return {"name": "queue_size", "labels": {"queue": queue}, "value": value}


def shown(exposition: Exposition, name: str = "queue_size") -> list[str]:
    return [line for line in exposition.text().decode().splitlines() if line.startswith(name)]


def test_a_silent_gauge_hides_and_comes_back_with_its_value(tmp_path: Path, clock: Clock) -> None:
    exposition = Exposition(tmp_path, CATALOGUE, clock)
    with Registry(tmp_path) as registry:
        registry.fold(depth("a"), depth("b"))
        registry.commit()
        clock.now = NOW + GAUGE_TTL
        assert shown(exposition) == ['queue_size{queue="a"} 42.0', 'queue_size{queue="b"} 42.0']
        registry.fold(depth("b"), now=clock.now)
        registry.commit(clock.now)
        clock.now += 1
        assert shown(exposition) == ['queue_size{queue="b"} 42.0']
        assert exposition.series["queue_size"] == 1
        registry.fold(depth("a"), now=clock.now)
        registry.commit(clock.now)
        assert shown(exposition) == ['queue_size{queue="a"} 42.0', 'queue_size{queue="b"} 42.0']


def test_a_shard_of_another_clock_is_as_old_as_its_owner_says(tmp_path: Path, clock: Clock) -> None:
    ahead: dict[str, float] = {}
    exposition = Exposition(tmp_path, CATALOGUE, clock, ahead)
    with Registry(tmp_path) as registry, Registry(tmp_path, 1) as equal:
        registry.fold(depth("a"))
        registry.commit()
        clock.now = NOW + DAY
        equal.fold(depth("b"), now=clock.now)
        equal.commit(clock.now)
        assert shown(exposition) == ['queue_size{queue="b"} 42.0']
        ahead["shard0"] = DAY
        assert shown(exposition) == ['queue_size{queue="a"} 42.0', 'queue_size{queue="b"} 42.0']
        clock.now += GAUGE_TTL + 1
        assert not shown(exposition)
        ahead["shard0"] = -DAY
        assert not shown(exposition)


def test_time_that_passes_hides_without_any_change(tmp_path: Path, clock: Clock) -> None:
    exposition = Exposition(tmp_path, CATALOGUE, clock)
    with Registry(tmp_path) as registry:
        registry.fold(depth("early"), now=NOW)
        registry.fold(depth("late"), now=NOW + 100, source="s-2")
        registry.commit()
    for seconds, count in ((0, 2), (GAUGE_TTL, 2), (GAUGE_TTL + 1, 1), (GAUGE_TTL + 99, 1), (GAUGE_TTL + 101, 0)):
        clock.now = NOW + seconds
        assert len(shown(exposition)) == count
        assert len(shown(Exposition(tmp_path, CATALOGUE, clock))) == count


def test_an_update_in_any_shard_keeps_a_series(tmp_path: Path, clock: Clock) -> None:
    exposition = Exposition(tmp_path, CATALOGUE, clock)
    with Registry(tmp_path) as first, Registry(tmp_path, 1) as second:
        first.fold(depth("a"))
        first.commit()
        second.fold(depth("a", 43), now=NOW + 200, source="s-2")
        second.commit(NOW + 200)
    clock.now = NOW + GAUGE_TTL + 100
    assert shown(exposition) == ['queue_size{queue="a"} 43.0']


def test_counters_stay_unless_their_family_says_otherwise(tmp_path: Path, clock: Clock) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[counter.short_total]\nhelp = "Short"\nlabels = ["a"]\nttl_seconds = 60\n')
    catalogue = Catalogue.load([own])
    exposition = Exposition(tmp_path, catalogue, clock)
    with Registry(tmp_path, catalogue=catalogue) as registry:
        registry.fold(
            *({"name": name, "type": "counter", "labels": {"a": "x"}, "value": 5} for name in ("hits", "short_total"))
        )
        registry.commit()
        assert shown(exposition, "short") == ['short_total{a="x"} 5.0']
        clock.now = NOW + 100_000
        assert shown(exposition, "short") == []
        assert shown(Exposition(tmp_path, catalogue, clock), "short") == []
        assert shown(exposition, "hits") == ['hits_total{a="x"} 5.0']


def test_a_series_whose_update_nobody_stated_never_hides(tmp_path: Path, clock: Clock) -> None:
    """prometheus_client's own writers state none."""
    exposition = Exposition(tmp_path, CATALOGUE, clock)
    with Registry(tmp_path) as registry:
        registry.fold({"name": "open_files", "type": "gauge", "op": "add", "value": 1})
        registry.commit()
    stock.write(tmp_path, {"gauge_sum_7.db": [Entry(Family("open_files", "gauge_sum", ("a",)), ("theirs",), (2,), 0)]})
    clock.now = NOW + 1e6
    assert shown(exposition, "open_files") == ['open_files{a="theirs"} 2.0']
