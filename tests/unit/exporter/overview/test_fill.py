from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict, mmap_key

from busmon.catalogue.catalogue import Catalogue
from busmon.exporter.overview.fill import FamilyRow, Fill
from busmon.registry.admission.budgets import Budgets
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings
from tests.unit.registry.registries import Registry


def settings(directory: Path) -> Settings:
    return Settings(registry_dir=directory, max_label_values=4, max_series_per_family=50, max_series=200)


def filled(directory: Path, *samples: object, shards: int = 1) -> None:
    """Fold the samples in each of so many shards."""
    for number in range(shards):
        with Registry(directory, number, budgets=Budgets.of(settings(directory))) as registry:
            registry.fold(*samples, source=f"s-{number}")
            registry.commit()


def rows(directory: Path) -> dict[str, FamilyRow]:
    exposition = Exposition(directory, Catalogue.load())
    snapshot = exposition.collect()
    return {row.name: row for row in Fill(settings(directory), Catalogue.load()).rows(snapshot, exposition.series)}


def starts(*agents: str) -> list[object]:
    return [{"name": "agent_starts_total", "labels": {"agent": agent}, "value": 1} for agent in agents]


def test_a_series_counts_once_in_the_scrape_and_in_each_shard_towards_its_budget(tmp_path: Path) -> None:
    filled(tmp_path, *starts("planner", "writer"), shards=2)
    row = rows(tmp_path)["agent_starts_total"]
    assert (row.type, row.series, row.used, row.budget) == ("counter", 2, 4, 50)
    assert (row.label, row.values, row.values_budget) == ("agent", 2, 4)
    assert row.fill == 0.5
    fill = Fill(settings(tmp_path), Catalogue.load())
    assert (fill.used >= 4, fill.budget) == (True, 200)  # busmon's own count towards the budget of all


def test_samples_beyond_a_budget_are_told_with_their_family_which_comes_first(tmp_path: Path) -> None:
    filled(tmp_path, *starts(*map(str, range(7))), {"name": "active_tasks_count", "value": 3})
    found = rows(tmp_path)
    assert next(iter(found)) == "agent_starts_total"
    assert found["agent_starts_total"].overflowed == 3
    assert found["agent_starts_total"].fill == 1.0
    assert found["active_tasks_count"].overflowed == 0


def test_busmons_own_families_have_no_budget_of_series(tmp_path: Path) -> None:
    filled(tmp_path, *starts(*map(str, range(7))))
    assert rows(tmp_path)["busmon_label_overflow_total"].budget is None


def test_a_family_that_no_worker_wrote_is_there_without_a_budget(tmp_path: Path) -> None:
    values = MmapedDict(str(tmp_path / "counter_1.db"))  # type: ignore[no-untyped-call]
    key = mmap_key("elsewhere", "elsewhere_total", ["x"], ["1"], "Counted elsewhere.")
    values.write_value(key, 42.0, 0.0)  # type: ignore[no-untyped-call]
    values.close()  # type: ignore[no-untyped-call]
    assert rows(tmp_path) == {"elsewhere": FamilyRow("elsewhere", "counter", 1)}


def test_what_cant_be_read_costs_the_budgets_only(tmp_path: Path) -> None:
    filled(tmp_path, *starts("planner"))
    (tmp_path / "places.jsonl").write_text("no place at all\n")
    row = rows(tmp_path)["agent_starts"]
    assert (row.series, row.used, row.budget) == (1, None, None)


def test_an_empty_directory_has_no_families(tmp_path: Path) -> None:
    assert rows(tmp_path) == {}
    assert Fill(settings(tmp_path), Catalogue.load()).used == 0
