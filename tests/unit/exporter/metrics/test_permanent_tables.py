"""The exporter's tables: full garbage collections pass over them, and they are freed without one."""

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from busmon import garbage
from busmon.exporter.metrics.negotiation import Format
from busmon.exporter.metrics.scrape import Scrape
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.merged import MergedSeries
from busmon.settings import Settings
from tests.unit.registry.registries import Registry


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Leave the collector as it was."""
    gc.collect()
    yield
    gc.unfreeze()
    gc.enable()


def count_traversed() -> int:
    return sum(type(known) is MergedSeries for known in gc.get_objects())


def publish(registry: Registry, *numbers: int) -> None:
    labels = [{"exchange": "x", "routing_key": f"task.{number}"} for number in numbers]
    registry.fold(*({"name": "messages_published_total", "labels": each, "value": 1} for each in labels))
    registry.commit()


def page(scrape: Scrape) -> str:
    return asyncio.run(scrape.page(Format.OPENMETRICS, compressed=False)).decode()


def test_a_full_collection_passes_over_series_of_the_first_scrape_and_of_much_growth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "_FEWEST", 100)
    with Registry(tmp_path) as registry:
        publish(registry, *range(200))
        scrape = Scrape(Settings(registry_dir=tmp_path))
        page(scrape)
        assert count_traversed() == 0
        publish(registry, *range(200, 250))
        page(scrape)
        assert count_traversed() == 50
        publish(registry, *range(250, 400))
        page(scrape)
        assert count_traversed() == 0


def test_the_collector_runs_again_after_a_scrape_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is gone")

    scrape = Scrape(Settings(registry_dir=tmp_path))
    monkeypatch.setattr("busmon.registry.scrape.collection.Collection._follow_all", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        page(scrape)
    assert gc.isenabled()


def test_tables_of_files_that_were_replaced_are_freed_before_the_files_are_read(tmp_path: Path) -> None:
    counts = list[int]()
    with Registry(tmp_path) as registry:
        publish(registry, *range(200))
        exposition = Exposition(tmp_path, note_begin=lambda: counts.append(count_traversed()))
        gc.disable()
        exposition.text()
        assert count_traversed() > 200
        registry.drop("messages_published_total", {"routing_key": "task.1"})
        assert b'task.1"' not in exposition.text()
        assert counts == [1, 1]  # the series that takes the rows of invalid keys
        del exposition
        assert count_traversed() == 0


def test_series_that_come_and_go_take_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_FEWEST", 20)
    known = list[int]()
    with Registry(tmp_path) as registry:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        for _ in range(100):
            publish(registry, *range(40))
            assert page(scrape).count("messages_published_total{") == 40
            assert registry.drop("messages_published_total") == 40
            assert "messages_published_total{" not in page(scrape)
            gc.collect()
            known.append(len(gc.get_objects()) + gc.get_freeze_count())
    # 40 series that stay each time would be thousands; a worker of pytest makes some of its own meanwhile.
    assert max(known[-10:]) - min(known[10:20]) < 1_000
