"""Bytes and cells are held to budgets: of a family, of adopted families, of all, and what is undone takes none."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import mmap_key

from busmon.catalogue.catalogue import Catalogue
from busmon.catalogue.family import Family
from busmon.registry.admission import weights
from busmon.registry.admission.budgets import UNBOUNDED, Budgets
from busmon.registry.series import columns
from busmon.registry.series.columns import Column, SeriesGroup
from busmon.registry.storage import values
from tests.unit.registry.registries import NOW, Registry, catalogue, scrape

BOUNDS = {str(float(number)): 1 for number in range(64)}
KINDS = """
[counter.hits_total]
help = "Hits — with a dash that JSON escapes"
labels = ["page", "host"]
[counter.plain_total]
help = "No labels"
[gauge.level]
help = "Level"
labels = ["tank"]
[histogram.wait_seconds]
help = "Wait"
labels = ["queue"]
buckets = [0.001, 0.5, 1, 1000000, 1e21]
[histogram.bare_seconds]
help = "Wait"
buckets = [1]
[summary.size_bytes]
help = "Size"
labels = ["kind"]
"""


def kinds(directory: Path) -> Catalogue:
    return catalogue(directory, KINDS)


def used(directory: Path) -> int:
    """Add up what all entries of publishers' and busmon's series take, without the files' headers."""
    return sum(
        values.contents(path)[1] - 8 for suffix in ("db", "bins") for path in directory.glob(f"*_shard*.{suffix}")
    )


def budgets(**stated: Any) -> Budgets:
    return replace(UNBOUNDED, **stated)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("hits_total", {"page": '/ü\U0001f600"\\', "host": "h" * 1000}, 1),
        ("plain_total", {}, 1),
        ("level", {"tank": "t"}, 1),
        ("wait_seconds", {"queue": "q\n"}, 1),
        ("bare_seconds", {}, 1),
        ("size_bytes", {"kind": "k"}, [1, 2, 3, 1000]),
    ],
)
def test_what_a_series_costs_is_what_its_files_grow_by(
    name: str, labels: dict[str, str], value: Any, tmp_path: Path
) -> None:
    with Registry(tmp_path, catalogue=kinds(tmp_path)) as registry:
        registry.commit()
        before = used(tmp_path)
        key = "values" if type(value) is list else "value"
        registry.fold({"name": name, "labels": labels, key: value})
        registry.shard.fold._folded.clear()
        registry.commit()
        group = registry.shard.fold.groups[name]
        assert group.size == used(tmp_path) - before > 0
    with Registry(tmp_path, catalogue=kinds(tmp_path)) as registry:
        assert registry.shard.fold.groups[name].size == group.size


def test_a_family_stops_where_its_bytes_end_and_its_series_go_on_counting(tmp_path: Path) -> None:
    with Registry(tmp_path, catalogue=kinds(tmp_path), budgets=budgets(bytes_per_family=10_000)) as registry:
        rows = [[f"{number:01000}", "h", 1] for number in range(20)]
        for _ in range(2):
            registry.fold(tables=[{"name": "hits_total", "labels": ["page", "host"], "rows": rows}])
            registry.fold({"name": "level", "labels": {"tank": "t"}, "value": 5})
            registry.commit()
        lines = registry.text("hits_total").splitlines()
        assert [line.rpartition(" ")[2] for line in lines] == ["2.0"] * 8
        assert registry.text("level") == 'level{tank="t"} 5.0\n'
        assert registry.rejected() == {"byte_budget": 24}
        assert registry.text("busmon_series_overflow") == (
            'busmon_series_overflow_total{agent="tester",metric="hits_total"} 24.0\n'
        )


def test_budgets_of_bytes_hold_over_all_shards_and_after_a_restart(tmp_path: Path) -> None:
    limits = budgets(bytes=5_000)
    for _ in range(2):
        for number in (0, 1):
            with Registry(tmp_path, number, catalogue=kinds(tmp_path), budgets=limits) as registry:
                for page in range(4):
                    registry.fold({"name": "hits_total", "labels": {"page": f"{page:01000}", "host": "h"}, "value": 1})
                    registry.commit()
    assert scrape(tmp_path, "hits_total").count("\n") == 4
    with Registry(tmp_path, 0, catalogue=kinds(tmp_path), budgets=limits) as registry:
        registry.drop("hits_total")
        registry.fold({"name": "hits_total", "labels": {"page": "p" * 1000, "host": "h"}, "value": 1})
        registry.commit()
        assert 'page="pp' in registry.text("hits_total")


def test_adopted_families_have_a_budget_of_their_own_that_leaves_the_catalogues_room(tmp_path: Path) -> None:
    with Registry(tmp_path, catalogue=kinds(tmp_path), budgets=budgets(adopted_bytes=50_000)) as registry:
        for family in range(5):
            rows = [[f"{number:0200}", {"buckets": {**BOUNDS, "+Inf": 0}, "sum": 1}] for number in range(5)]
            table = {"name": f"greedy_{family}", "type": "histogram", "labels": ["k"], "rows": rows}
            registry.fold(tables=[table])
        registry.fold({"name": "hits_total", "labels": {"page": "p", "host": "h"}, "value": 1})
        registry.commit()
        taken = [group.size for name, group in registry.shard.fold.groups.items() if name.startswith("greedy")]
        assert 25_000 < sum(taken) <= 50_000
        assert registry.rejected()["byte_budget"] == 25 - registry.text("greedy").count("_count")
        assert registry.text("hits_total") == 'hits_total{host="h",page="p"} 1.0\n'


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ({"labels": {f"l{number}": "v" for number in range(16)}, "type": "counter", "value": 1}, None),
        ({"labels": {f"l{number}": "v" for number in range(17)}, "type": "counter", "value": 1}, "invalid_label"),
        ({"labels": {"k": "v" * 256}, "type": "counter", "value": 1}, None),
        ({"labels": {"k": "v" * 257}, "type": "counter", "value": 1}, "invalid_label"),
        ({"type": "histogram", "buckets": {**BOUNDS, "+Inf": 0}, "sum": 1}, None),
        ({"type": "histogram", "buckets": {**BOUNDS, "99.0": 0, "+Inf": 0}, "sum": 1}, "bucket_mismatch"),
    ],
    ids=["16 labels", "17 labels", "256 characters", "257 characters", "64 bounds", "65 bounds"],
)
def test_a_metric_that_no_catalogue_names_is_small(
    statement: dict[str, Any], reason: str | None, tmp_path: Path
) -> None:
    with Registry(tmp_path) as registry:
        registry.fold({"name": "mine", **statement})
        registry.commit()
        assert registry.rejected() == ({reason: 1} if reason else {})
        assert ("mine" in registry.text("mine")) == (reason is None)


def test_an_adopted_familys_next_values_are_held_to_the_same_length(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for value in ("v", "w" * 257, "x" * 256):
            registry.fold({"name": "mine_total", "type": "counter", "labels": {"k": value}, "value": 1})
        registry.commit()
        assert registry.text("mine_total").count("\n") == 2
        assert registry.rejected() == {"invalid_label": 1}


def test_bins_beyond_a_summarys_bytes_are_left_out_and_its_sum_and_count_are_right(tmp_path: Path) -> None:
    with Registry(tmp_path, catalogue=kinds(tmp_path), budgets=budgets(bytes_per_family=1_000)) as registry:
        registry.fold({"name": "size_bytes", "labels": {"kind": "k"}, "values": [2.0**power for power in range(200)]})
        registry.commit()
        assert registry.shard.fold.groups["size_bytes"].size <= 1_000
        assert 'size_bytes_count{kind="k"} 200.0\n' in registry.text("size_bytes")
        assert "busmon_series_overflow_total" in registry.text("busmon_series_overflow")


def test_busmons_own_families_count_under_other_where_their_bytes_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "OWN_FAMILY_BYTES", 1_000)
    with Registry(tmp_path) as registry:
        for number in range(20):
            registry.fold({"name": f"unknown_{number}", "value": 1}, agent=f"agent-{number}")
            registry.commit()
        lines = registry.text("busmon_samples_rejected_total").splitlines()
        assert 3 < len(lines) < 10
        assert sum(float(line.rpartition(" ")[2]) for line in lines) == 20
        assert any('agent="other",reason="other"' in line for line in lines)


def test_what_is_rolled_back_takes_no_series_no_bytes_and_no_cell(tmp_path: Path) -> None:
    with Registry(tmp_path, catalogue=kinds(tmp_path), budgets=budgets(bytes_per_family=5_000)) as registry:
        registry.commit()
        before = used(tmp_path)
        for _ in range(3):
            for number in range(9):
                labels = {"page": f"{number:01000}", "host": "h"}
                registry.fold({"name": "hits_total", "labels": labels, "value": 1})
                registry.fold({"name": "size_bytes", "labels": {"kind": "k"}, "values": [number]})
            registry.shard.rollback()
        registry.commit()
        assert used(tmp_path) == before
        assert registry.text("hits_total", "size_bytes") == ""
        registry.fold({"name": "hits_total", "labels": {"page": "p" * 1000, "host": "h"}, "value": 1})
        registry.commit()
        assert registry.text("hits_total").count("\n") == 1
        series = sum(len(group.cells) for group in registry.shard.fold.groups.values())
        assert registry.shard.admission._allotment._census.total() == series


def test_a_commit_that_a_files_format_cannot_hold_is_undone_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path, catalogue=kinds(tmp_path)) as registry:
        registry.fold({"name": "plain_total", "value": 1})
        registry.commit()
        monkeypatch.setattr(values, "MAX_FILE_BYTES", 100_000)
        rows = [[f"{number:01000}", "h", 1] for number in range(200)]
        registry.fold(tables=[{"name": "hits_total", "labels": ["page", "host"], "rows": rows}])
        for _ in range(2):
            with pytest.raises(OverflowError, match=r"counter_shard0\.db: \d+ bytes; a value file has at most 100000"):
                registry.commit()
        registry.shard.rollback()
        registry.fold({"name": "plain_total", "value": 1}, now=NOW + 1)
        registry.commit()
        assert registry.text("plain_total", "hits_total") == "plain_total 2.0\n"


@pytest.mark.parametrize("series_per_commit", [50, 10])
def test_no_column_is_let_grow_beyond_what_its_file_can_be(
    series_per_commit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (columns, values):
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 20_000)
    for commits in range(50 // series_per_commit):
        with Registry(tmp_path, catalogue=kinds(tmp_path)) as registry:
            for half in (0, 1):
                for number in range(half, series_per_commit, 2):
                    page = f"{commits * series_per_commit + number:01000}"
                    registry.fold({"name": "hits_total", "labels": {"page": page, "host": "h"}, "value": 1})
                registry.commit()
            assert registry.shard._files.columns["counter"].size == values.contents(tmp_path / "counter_shard0.db")[1]
    assert 5 < scrape(tmp_path, "hits_total").count("\n") < 20
    assert (tmp_path / "counter_shard0.db").stat().st_size == 65_536


def test_bins_beyond_what_their_file_can_be_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (columns, values):
        monkeypatch.setattr(module, "MAX_FILE_BYTES", 20_000)
    with Registry(tmp_path, catalogue=kinds(tmp_path)) as registry:
        for number in range(10):
            sizes = [2.0**power for power in range(100)]
            registry.fold({"name": "size_bytes", "labels": {"kind": str(number)}, "values": sizes})
            registry.commit()
        assert values.contents(tmp_path / "sketch_shard0.bins")[1] <= 20_000
        assert 'size_bytes_count{kind="9"} 100.0\n' in registry.text("size_bytes")


@pytest.mark.parametrize("labels", [{}, {"a": "x"}, {"z": "y"}, {"a": 'q"', "le_": "\n", "ld": "é", "z": ""}])
def test_a_buckets_key_is_prometheus_clients(labels: dict[str, str]) -> None:
    family = Family("wait_seconds", "histogram", 'Help "é"', tuple(labels), (0.1, 1.0))
    group = SeriesGroup(family, Column("histogram"))
    keys = [key.decode() for key in group._keys(tuple(labels.values()))]
    bounds = [{**labels, "le": bound} for bound in ("0.1", "1.0", "+Inf")]
    name = "wait_seconds"
    assert keys[:3] == [mmap_key(name, f"{name}_bucket", [*le], [*le.values()], family.help) for le in bounds]
