"""Nothing grows without bound: label values and series have budgets, the same for the fleet and after every restart."""

import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.admission import admission as admissions
from busmon.registry.admission.budgets import OTHER, UNBOUNDED
from tests.unit.registry.registries import NOW, Registry, catalogue, fresh_directory, stock

TEN = replace(UNBOUNDED, label_values=10, forget_seconds=86_400.0)
HOUR = 3600.0


def started(agent: str, amount: float = 1) -> dict[str, Any]:
    return {"name": "agent_starts_total", "labels": {"agent": agent}, "value": amount}


def limit_of(agent: str, value: float = 1) -> dict[str, Any]:
    return {"name": "agent_memory_limit_bytes", "labels": {"agent": agent}, "value": value}


def own(directory: Path, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    return {tuple(sorted(labels)): value for (sample, labels), value in stock(directory).items() if sample == name}


def by_label(directory: Path, name: str, label: str) -> dict[str, float]:
    sums: defaultdict[str, float] = defaultdict(float)
    for labels, value in own(directory, name).items():
        sums[dict(labels).get(label, "")] += value
    return {value: total for value, total in sums.items() if total}


# -- label budgets ----------------------------------------------------------------------------------------------------


def test_a_value_over_its_labels_budget_counts_as_other_and_is_counted_with_its_agent(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        registry.fold(*(started(f"a{i}", 2) for i in range(12)), agent="scheduler")
        registry.fold(started("a11", 3), started("a0"), agent="planner")
        registry.commit()
    counted = by_label(tmp_path, "agent_starts_total", "agent")
    assert counted == {f"a{i}": 2 + (not i) for i in range(10)} | {OTHER: 7}
    overflow = own(tmp_path, "busmon_label_overflow_total")
    assert overflow == {
        (("agent", "scheduler"), ("label", "agent"), ("metric", "agent_starts_total")): 2,
        (("agent", "planner"), ("label", "agent"), ("metric", "agent_starts_total")): 1,
    }


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6), st.integers(1, 9)), max_size=80),
    st.integers(0, 12),
    st.sampled_from(["samples", "tables"]),
)
def test_all_that_was_published_is_counted_whatever_has_a_place(
    published: list[tuple[int, int, int]], budget: int, form: str
) -> None:
    budgets = replace(TEN, label_values=budget)
    rows = [[f"e{exchange}", f"k{key}", amount] for exchange, key, amount in published]
    with fresh_directory() as directory, Registry(directory, budgets=budgets) as registry:
        if form == "tables":
            table = {"name": "messages_published_total", "labels": ["exchange", "routing_key"], "rows": rows}
            registry.fold(tables=[table])
        else:
            labels = [{"exchange": exchange, "routing_key": key} for exchange, key, _ in rows]
            samples = zip(labels, rows, strict=True)
            registry.fold(
                *({"name": "messages_published_total", "labels": pair, "value": row[-1]} for pair, row in samples)
            )
        registry.commit()
        counted = own(directory, "messages_published_total")
        assert sum(counted.values()) == sum(amount for _, _, amount in published)
        for label in ("exchange", "routing_key"):
            assert len({dict(labels)[label] for labels in counted} - {OTHER}) <= budget


def test_a_gauge_over_the_budget_is_rejected_since_an_other_gauge_means_nothing(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, label_values=1)) as registry:
        registry.fold(limit_of("a"), limit_of("b"), limit_of("b"), agent="scheduler")
        registry.commit()
    assert by_label(tmp_path, "agent_memory_limit_bytes", "agent") == {"a": 1}
    assert by_label(tmp_path, "busmon_samples_rejected_total", "reason") == {"label_budget": 2}
    assert by_label(tmp_path, "busmon_label_overflow_total", "metric") == {"agent_memory_limit_bytes": 2}


def test_a_histogram_and_a_summary_overflow_whole(tmp_path: Path) -> None:
    own_catalogue = catalogue(tmp_path, '[summary.sizes]\nhelp = "Sizes"\nlabels = ["kind"]\nquantiles = [0.5]')
    with Registry(tmp_path, catalogue=own_catalogue, budgets=replace(TEN, label_values=1)) as registry:
        for agent in ("a", "b", "c"):
            registry.fold({"name": "task_duration_seconds", "labels": {"agent": agent}, "value": 0.2})
            registry.fold({"name": "sizes", "labels": {"kind": agent}, "values": [1, 2]})
        registry.commit()
    assert by_label(tmp_path, "task_duration_seconds_count", "agent") == {"a": 1, OTHER: 2}
    assert by_label(tmp_path, "sizes_count", "kind") == {"a": 2, OTHER: 4}


def test_an_enumerated_value_and_other_itself_always_have_a_place(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, label_values=0)) as registry:
        for status in ("success", OTHER, "maybe"):
            labels = {"agent": OTHER, "status": status}
            registry.fold({"name": "tasks_processed_total", "labels": labels, "value": 1})
        registry.commit()
    assert by_label(tmp_path, "tasks_processed_total", "status") == {"success": 1, OTHER: 2}


def test_a_family_may_have_budgets_of_its_own(tmp_path: Path) -> None:
    text = '[counter.hits_total]\nhelp = "Hits"\nlabels = ["a", "b"]\nbudgets.a = 2'
    with Registry(tmp_path, catalogue=catalogue(tmp_path, text), budgets=TEN) as registry:
        registry.fold(*({"name": "hits_total", "labels": {"a": str(i), "b": str(i)}, "value": 1} for i in range(9)))
        registry.commit()
    assert len(by_label(tmp_path, "hits_total", "a")) == 3
    assert len(by_label(tmp_path, "hits_total", "b")) == 9


def test_busmons_own_families_are_bounded_by_the_same_means(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        for i in range(300):
            registry.fold({"value": 1}, started(f"a{i}"), agent=f"a{i}")
            registry.shard.fold.own.count("busmon_clock_skew_total", (f"a{i}",))
            registry.shard.fold.own.set("busmon_last_envelope_timestamp_seconds", (f"a{i}",), NOW, NOW)
            if i % 50 == 0:
                registry.commit()
        registry.commit()
    for name in ("busmon_samples_rejected_total", "busmon_clock_skew_total"):
        counted = by_label(tmp_path, name, "agent")
        assert len(counted) == 11
        assert sum(counted.values()) == 300
    assert len(by_label(tmp_path, "busmon_last_envelope_timestamp_seconds", "agent")) == 300
    overflow = own(tmp_path, "busmon_label_overflow_total")
    assert len({dict(labels)["agent"] for labels in overflow}) <= 11
    published = (value for labels, value in overflow.items() if ("metric", "agent_starts_total") in labels)
    assert sum(published) == 290


def test_the_places_are_the_same_for_every_shard_and_after_a_restart(tmp_path: Path) -> None:
    with Registry(tmp_path, 0, budgets=TEN) as first, Registry(tmp_path, 1, budgets=TEN) as second:
        first.fold(*(started(f"a{i}") for i in range(6)))
        second.fold(*(started(f"b{i}") for i in range(6)), started("a0"))
        first.fold(started("b0"), started("b5"))
        first.commit()
        second.commit()
    with Registry(tmp_path, 2, budgets=TEN) as third:
        third.fold(started("a5"), started("c0"))
        third.commit()
    counted = by_label(tmp_path, "agent_starts_total", "agent")
    assert counted.keys() == {f"a{i}" for i in range(6)} | {f"b{i}" for i in range(4)} | {OTHER}
    assert (counted[OTHER], sum(counted.values())) == (4, 17)


RACE = """
import sys
from pathlib import Path
from tests.unit.registry.registries import NOW, Registry
from tests.unit.registry.admission.test_admission import TEN, started
shard = int(sys.argv[2])
with Registry(Path(sys.argv[1]), shard, budgets=TEN) as registry:
    sys.stdin.readline()
    for i in range(200):
        registry.fold(started(f"{shard}-{i}"), started(f"both-{i}"))
        registry.commit()
"""


def test_two_processes_that_race_never_give_away_a_place_twice(tmp_path: Path) -> None:
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), str(shard)], stdin=subprocess.PIPE)
        for shard in (0, 1)
    ]
    for racer in racers:
        assert racer.stdin
        racer.stdin.write(b"go\n")
        racer.stdin.flush()
    assert [racer.wait(120) for racer in racers] == [0, 0]
    for racer in racers:
        assert racer.stdin
        racer.stdin.close()
    counted = by_label(tmp_path, "agent_starts_total", "agent")
    assert len(counted.keys() - {OTHER}) == 10
    assert sum(counted.values()) == 800


def test_a_value_without_a_place_costs_no_look_at_the_fleet_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path, budgets=replace(TEN, label_values=0)) as registry:
        registry.fold(started("a"))
        with monkeypatch.context() as patch:
            patch.setattr(admissions.Admission, "_decide", lambda *_: pytest.fail("asked again"))
            registry.fold(started("a"), started("a"))
        registry.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {OTHER: 3}


def test_what_is_remembered_of_values_without_a_place_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissions, "MAX_ALIASES", 100)
    with Registry(tmp_path, budgets=replace(TEN, label_values=0)) as registry:
        registry.fold(*(started(f"a{i}") for i in range(1050)))
        assert len(registry.shard.admission._aliases.entries) <= 100
        registry.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {OTHER: 1050}


# -- places given back ------------------------------------------------------------------------------------------------


def test_ten_thousand_short_lived_names_do_not_spoil_the_label(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, label_values=100)) as registry:
        for i in range(10_000):
            now = NOW + i * HOUR
            registry.fold(started(f"job-{i}"), started("steady"), now=now)
            if i % 10 == 0:
                registry.commit(now)
                registry.tidy(now)
        registry.commit(now)
        counted = by_label(tmp_path, "agent_starts_total", "agent")
        assert OTHER not in counted
        assert len(counted) <= 101
        assert counted["steady"] == 10_000
        sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes["places.jsonl"] < 200_000
    assert sizes["counter_shard0.db"] < 200_000


def test_a_value_that_is_unseen_gives_its_place_back_and_its_series_leave(tmp_path: Path) -> None:
    day = 24 * HOUR
    with Registry(tmp_path, 0, budgets=TEN) as first, Registry(tmp_path, 1, budgets=TEN) as second:
        first.fold(*(started(f"a{i}") for i in range(10)))
        second.fold(started("a0"), started("a1"))
        first.commit(NOW)
        second.commit(NOW)
        first.fold(started("a1"), now=NOW + day / 2)
        first.commit(NOW + day / 2)
        second.fold(started("new"), now=NOW + day + 1)
        second.commit(NOW + day + 1)
        assert first.tidy(NOW + day + 2) == 9
        assert second.tidy(NOW + day + 2) == 1
        assert by_label(tmp_path, "agent_starts_total", "agent") == {"a1": 3, "new": 1}
        first.fold(started("a0"), now=NOW + day + 3)
        first.commit(NOW + day + 3)
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"a0": 1, "a1": 3, "new": 1}


def test_a_value_that_was_seen_when_its_place_was_given_back_keeps_it_and_its_count(tmp_path: Path) -> None:
    later = NOW + 25 * HOUR
    with Registry(tmp_path, 0, budgets=TEN) as first, Registry(tmp_path, 1, budgets=TEN) as second:
        first.fold(*(started(f"a{i}") for i in range(10)))
        first.commit(NOW)
        first.fold(started("a0"), now=later)
        second.fold(started("new"), now=later)
        second.commit(later)
        assert first.tidy(later) == 9
        assert by_label(tmp_path, "agent_starts_total", "agent") == {"a0": 2, "new": 1}
        assert {*first.shard.admission._allotment.places.find_taken("agent_starts_total", "agent")} == {"a0", "new"}


def test_what_nobody_has_seen_since_a_crash_is_settled_when_the_shard_is_opened(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        registry.fold(started("a"), started("b"))
        registry.commit(NOW)
    (tmp_path / "places.jsonl").unlink()
    (tmp_path / "series.counts").unlink()
    with Registry(tmp_path, budgets=TEN) as registry:
        registry.tidy(NOW + 1)
        assert {*registry.shard.admission._allotment.places.find_taken("agent_starts_total", "agent")} == {"a", "b"}
        number = registry.shard.admission._allotment.places.numbers
        assert "agent_starts_total" not in number or registry.shard.admission._allotment._census.of(
            number["agent_starts_total"]
        )
        registry.fold(started("a"))
        registry.commit(NOW + 2)
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"a": 2, "b": 1}


# -- series budgets ---------------------------------------------------------------------------------------------------


def test_a_series_beyond_its_familys_budget_is_rejected_and_counted(tmp_path: Path) -> None:
    budgets = replace(TEN, series_per_family=3)
    with Registry(tmp_path, 0, budgets=budgets) as first, Registry(tmp_path, 1, budgets=budgets) as second:
        first.fold(started("a"), started("b"))
        second.fold(started("a"), started("c"), started("a"), agent="scheduler")
        first.fold(started("d"), started("a"))
        first.commit()
        second.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"a": 4, "b": 1}
    assert by_label(tmp_path, "busmon_samples_rejected_total", "reason") == {"series_budget": 2}
    assert own(tmp_path, "busmon_series_overflow_total") == {
        (("agent", "scheduler"), ("metric", "agent_starts_total")): 1,
        (("agent", "tester"), ("metric", "agent_starts_total")): 1,
    }


def test_all_families_together_have_a_budget_which_busmons_own_never_fail(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, series=2)) as registry:
        registry.fold(started("a"), limit_of("a"), limit_of("b"))
        registry.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"a": 1}
    assert by_label(tmp_path, "agent_memory_limit_bytes", "agent") == {"a": 1}
    assert by_label(tmp_path, "busmon_samples_rejected_total", "reason") == {"series_budget": 1}


def test_a_restart_counts_what_the_files_hold(tmp_path: Path) -> None:
    budgets = replace(TEN, series_per_family=3)
    with Registry(tmp_path, budgets=budgets) as registry:
        registry.fold(started("a"), started("b"))
        registry.commit()
        registry.fold(started("never committed"))
    with Registry(tmp_path, budgets=budgets) as registry:
        registry.fold(started("c"), started("d"))
        registry.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"a": 1, "b": 1, "c": 1}


def test_a_removed_series_makes_room_for_another(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, series_per_family=1)) as registry:
        registry.fold(started("a"), started("b"))
        assert registry.drop("agent_starts_total", {"agent": "a"}, NOW) == 1
        registry.fold(started("b"))
        registry.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"b": 1}


def test_other_budgets_apply_from_their_reload_on(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, label_values=1)) as registry:
        registry.fold(started("a"), started("b"))
        registry.shard.limit(replace(TEN, label_values=2))
        registry.fold(started("b"), started("c"))
        registry.commit()
    assert by_label(tmp_path, "agent_starts_total", "agent") == {"a": 1, "b": 1, OTHER: 2}


def test_a_child_that_only_tries_a_body_writes_nothing(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        registry.fold(started("a"))
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        registry.shard.admission.detach()
        registry.fold(started("b"))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
