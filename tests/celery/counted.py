"""The fleet's own view of Celery, out of a scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from tests.patience import wait_until

if TYPE_CHECKING:
    from collections import Counter

    from tests.fleet.real_fleet import RealFleet


def counted(fleet: RealFleet) -> dict[tuple[str, str], float]:
    """The fleet's counters of tasks by Celery's type of event and the task's name, without those at 0."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(fleet.get("/metrics")[1].decode()):
        if family.type == "counter" and family.name.startswith("celery_task_"):
            for sample in family.samples:
                key = family.name.replace("celery_task_", "task-"), sample.labels["name"]
                found[key] = found.get(key, 0) + sample.value
    return {key: value for key, value in found.items() if value}


def value(fleet: RealFleet, metric: str, /, **labels: str) -> float | None:
    """The sum of the samples with these labels in a scrape; None where there is none."""
    found = [
        sample.value
        for family in text_string_to_metric_families(fleet.get("/metrics")[1].decode())
        for sample in family.samples
        if sample.name == metric and labels.items() <= sample.labels.items()
    ]
    return sum(found) if found else None


def await_equal(fleet: RealFleet, expected: Counter[tuple[str, str]]) -> None:
    """Wait until the fleet has counted as many events; of each type it has then counted what is expected.

    The name of a task is unknown while no event that states it has arrived: a worker may report on a task before the
    client's event arrives, and a broker's restart loses transient events. Such events are counted as `unknown`.
    """
    wait_until(lambda: sum(counted(fleet).values()) >= expected.total(), f"{expected}, got {counted(fleet)}")
    found = counted(fleet)
    unknown = {kind: count for (kind, name), count in found.items() if name == "unknown"}
    named = {key: count for key, count in found.items() if key[1] != "unknown"}
    missing: dict[str, float] = {}
    for kind, name in named.keys() | expected.keys():
        lacks = expected.get((kind, name), 0) - named.get((kind, name), 0)
        assert lacks >= 0, f"{kind} of {name}: {-lacks} too many"
        missing[kind] = missing.get(kind, 0) + lacks
    assert {kind: count for kind, count in missing.items() if count} == unknown
    assert sum(unknown.values()) <= max(10, expected.total() // 100)
