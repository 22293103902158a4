"""A scrape after the first costs what changed: known keys are never parsed again, and unchanged files never read."""

from pathlib import Path

import pytest

from busmon.registry.scrape import followed
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.keys import KeyParser
from busmon.registry.scrape.tables import ValueTable
from busmon.registry.storage import journal
from tests.unit.registry import stock
from tests.unit.registry.registries import NOW, Registry

Counted = dict[str, int]


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """How often files were read whole, and how many keys were parsed."""
    counted = {"files": 0, "keys": 0}
    read, parse = ValueTable.read, KeyParser.parse

    def counted_read(table: ValueTable) -> None:
        counted["files"] += 1
        read(table)

    def counted_parse(parser: KeyParser, type_: str, key: bytes, pid: str) -> object:
        counted["keys"] += 1
        return parse(parser, type_, key, pid)

    monkeypatch.setattr(ValueTable, "read", counted_read)
    monkeypatch.setattr(KeyParser, "parse", counted_parse)
    monkeypatch.setattr(followed, "_RECORD_COST", 0)  # however small the files, follow the records
    return counted


def hit(page: int) -> dict[str, object]:
    return {"name": "hits", "type": "counter", "labels": {"page": str(page)}, "value": 1}


def commit(registry: Registry, *pages: int) -> None:
    registry.fold(*map(hit, pages))
    registry.commit(NOW)


def spent(costs: Counted) -> tuple[int, int]:
    """The files read and the keys parsed since this was asked last."""
    before = costs["files"], costs["keys"]
    costs.update(files=0, keys=0)
    return before


def test_a_scrape_costs_what_changed(tmp_path: Path, costs: Counted) -> None:
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        commit(registry, *range(50))
        first = exposition.text()
        assert spent(costs)[0] >= 1
        assert exposition.text() == first
        assert spent(costs) == (0, 0)
        commit(registry, 7)
        assert b'hits_total{page="7"} 2.0' in exposition.text()
        assert spent(costs) == (0, 0)
        commit(registry, 7, 50, 51)
        assert b'hits_total{page="51"} 1.0' in exposition.text()
        assert spent(costs) == (0, 2)
        assert stock.figures(exposition.text()) == stock.oracle(tmp_path)


def test_a_journal_begun_anew_costs_no_key(tmp_path: Path, costs: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", 1000)
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        commit(registry, *range(20))
        exposition.text()
        spent(costs)
        for _ in range(20):
            commit(registry, *range(10))
        assert b'hits_total{page="7"} 21.0' in exposition.text()
        files, keys = spent(costs)
        assert files >= 1
        assert keys == 0


def test_a_file_of_a_new_kind_is_found(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        commit(registry, 1)
        exposition.text()
        registry.fold({"name": "waits", "type": "histogram", "value": 0.2})
        registry.commit()
        assert b"waits_count 1.0" in exposition.text()


def test_removed_series_leave_the_scrape_and_the_others_stay(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        commit(registry, 1, 2, 3)
        exposition.text()
        registry.drop("hits", {"page": "2"})
        commit(registry, 3)
        text = exposition.text()
        assert b'page="2"' not in text
        assert b'hits_total{page="3"} 2.0' in text
        assert stock.figures(text) == stock.oracle(tmp_path)


def test_a_record_that_was_marked_and_taken_back_is_not_kept(tmp_path: Path) -> None:
    """A flush that fails after the mark: the next record stands where the other stood."""
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        commit(registry, 1, 2)
        before = (tmp_path / "shard0.journal").read_bytes()
        values = (tmp_path / "counter_shard0.db").read_bytes()
        commit(registry, 1)
        assert b'hits_total{page="1"} 2.0' in exposition.text()
        with (tmp_path / "shard0.journal").open("r+b") as stream:
            stream.write(before)
        with (tmp_path / "counter_shard0.db").open("r+b") as stream:
            stream.write(values)
    with Registry(tmp_path) as registry:
        commit(registry, 2)
        text = exposition.text()
        assert b'hits_total{page="1"} 1.0' in text
        assert b'hits_total{page="2"} 2.0' in text


def test_a_scrape_that_fails_halfway_costs_the_next_one_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry, monkeypatch.context() as failing:
        commit(registry, 1)
        failing.setattr(KeyParser, "parse", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            exposition.text()
    assert b'hits_total{page="1"} 1.0' in exposition.text()


def test_a_journal_that_cannot_be_read_costs_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        commit(registry, 1)
        with monkeypatch.context() as failing:
            failing.setattr(journal.Journal, "marks", fail)
            assert b'hits_total{page="1"} 1.0' in exposition.text()
            assert set(exposition.skipped) == {"shard0.journal"}
        assert b'hits_total{page="1"} 1.0' in exposition.text()
        assert exposition.skipped == {}
