"""Rows of a table that are refused together have the outcome that each has alone."""

from pathlib import Path
from typing import Any

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.budgets import Budgets
from busmon.registry.series import shares
from tests.unit.registry.registries import Registry, catalogue, fresh_directory

BUDGETS = Budgets(label_values=3, forget_seconds=86_400.0, series_per_family=1_000, series=1_000)
WIDER = Budgets(label_values=20, forget_seconds=86_400.0, series_per_family=1_000, series=1_000)
"""Has a place for each reason."""

OWN = """
[summary.spans_seconds]
help = "Spans."
labels = ["zone", "kind"]
values.kind = ["read", "write"]
"""
ENDLESS = [["a", 1], ["b", 2], ["c", 3], *([str(number), number] for number in range(1_000))]
ODD: list[Any] = [
    1, [], {}, None, [1], ["a"], ["a", "b", 1], ["a", "b"], ["a", None], ["a", True], ["a", [1]], ["a", {}],
    ["a", -1], ["a", 1e999], ["a", "b", -1], [["a"], 1], [None, 1], [7, 1], [7.0, 1], [True, 1], ["other", 1],
    ["x" * 2000, 1], ["x" * 300, 1], ["new", -1], ["new", "1"], ["new", [2]], ["new", 1, 2], ["a", 5], ["b", 0.5],
]  # fmt: skip


def table(name: str, labels: list[str], rows: list[Any]) -> dict[str, Any]:
    return {"name": name, "labels": labels, "rows": rows}


def test_endless_values_of_a_gauge_are_each_rejected_and_the_last_are_shown(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=BUDGETS) as registry:
        registry.fold(tables=[table("queue_size", ["queue"], ENDLESS)])
        registry.commit()
        assert registry.rejected() == {"label_budget": 1_000}
        assert registry.text("busmon_label_overflow_total") == (
            'busmon_label_overflow_total{agent="tester",label="queue",metric="queue_size"} 1000.0\n'
        )
        assert registry.text("queue_size") == (
            'queue_size{queue="a"} 1.0\nqueue_size{queue="b"} 2.0\nqueue_size{queue="c"} 3.0\n'
        )
        shown = [(each.labels, each.value, each.why) for each in registry.shard.fold.rejected.fresh()]
        why = "no place is left for a new value of the label queue"
        assert shown == [({"queue": str(number)}, str(number), why) for number in range(995, 1_000)]


def test_endless_values_of_a_counter_are_each_counted_as_other(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=BUDGETS) as registry:
        registry.fold(tables=[table("agent_starts_total", ["agent"], ENDLESS)])
        registry.commit()
        assert registry.text("agent_starts_total") == (
            'agent_starts_total{agent="a"} 1.0\nagent_starts_total{agent="b"} 2.0\n'
            'agent_starts_total{agent="c"} 3.0\nagent_starts_total{agent="other"} 499500.0\n'
        )
        assert registry.text("busmon_label_overflow_total") == (
            'busmon_label_overflow_total{agent="tester",label="agent",metric="agent_starts_total"} 1000.0\n'
        )
        assert registry.text("busmon_samples_folded_total{") == 'busmon_samples_folded_total{type="counter"} 1003.0\n'
        assert registry.rejected() == {}


@pytest.mark.parametrize("name", ["queue_size", "agent_starts_total", "task_duration_seconds", "junk", "spans_seconds"])
def test_rows_count_together_as_one_by_one(name: str) -> None:
    label = {"queue_size": "queue", "spans_seconds": "zone"}.get(name, "agent")
    rows = [*ENDLESS[:6], *ODD, *ENDLESS[:300], *ODD, *ENDLESS[13:30]]
    labels = [label]
    if name == "spans_seconds":
        labels.append("kind")
        rows = [[row[0], "read", *row[1:]] if type(row) is list and row else row for row in rows]
    stated = {**table(name, labels, []), **({"type": "gauge"} if name == "junk" else {})}
    assert outcome([{**stated, "rows": rows}]) == outcome([{**stated, "rows": [row]} for row in rows])


def outcome(tables: list[dict[str, Any]]) -> tuple[str, str, list[Any]]:
    """Fold tables one by one, and give what a scrape and the last rejected samples say."""
    with fresh_directory() as directory, Registry(directory, catalogue=own(directory), budgets=WIDER) as registry:
        for each in tables:
            registry.fold(tables=[each])
        registry.commit()
        last = [(each.reason, each.labels, each.value, each.why) for each in registry.shard.fold.rejected.fresh()]
        own_text = registry.text("busmon_samples_", "busmon_label_overflow_total", "busmon_series_overflow_total")
        return registry.text(), own_text, sorted(map(str, last))


def own(directory: Path) -> Catalogue:
    return catalogue(directory, OWN)


def test_gauges_beyond_an_agents_room_are_each_rejected_and_those_that_are_known_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [["a", 1], ["b", 2], ["c", 3], ["a", 4], ["c", "x"], ["b", 5]]
    with Registry(tmp_path) as registry:
        registry.fold(tables=[table("queue_size", ["queue"], [["a", 0], ["b", 0], ["c", 9]])], agent="modest")
        monkeypatch.setattr(shares, "MAX_SHARES_OF_AGENT", 2)
        registry.fold(tables=[table("queue_size", ["queue"], rows)], source="first")
        registry.fold(tables=[table("queue_size", ["queue"], [*rows, *rows])], source="second")
        registry.commit()
        assert registry.rejected() == {"share_budget": 11, "invalid_value": 3}
        assert registry.text("queue_size") == (
            'queue_size{queue="a"} 4.0\nqueue_size{queue="b"} 5.0\nqueue_size{queue="c"} 9.0\n'
        )
