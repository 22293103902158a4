"""Each agent has a share of the metrics that no catalogue names, and each such metric an owner."""

from pathlib import Path
from typing import Any

import orjson

from busmon.catalogue.catalogue import Catalogue
from busmon.exporter.overview.fill import Fill
from busmon.registry.admission.families import Families
from busmon.registry.admission.principal import Principal
from busmon.settings import Settings
from tests.unit.registry.registries import NOW, Registry, envelope


def metrics(prefix: str, count: int) -> list[dict[str, Any]]:
    return [{"name": f"{prefix}_{number}", "type": "gauge", "value": 1} for number in range(count)]


def fold(registry: Registry, agent: str, count: int, user: str | None = None, source: str = "s") -> None:
    registry.shard.fold.envelope(envelope(*metrics(agent, count), agent=agent, source=source), NOW, user)
    registry.commit()


def held(registry: Registry) -> dict[str, int]:
    return {str(owner): count for owner, count in registry.families.count_held().items()}


def test_a_greedy_agent_leaves_as_much_as_it_takes(tmp_path: Path) -> None:
    with Registry(tmp_path, max_adopted=1000) as registry:
        fold(registry, "greedy", 2000)
        assert held(registry) == {"greedy": 500}
        fold(registry, "second", 2000)
        fold(registry, "honest", 90)
        assert held(registry) == {"greedy": 500, "second": 250, "honest": 90}
        assert registry.rejected() == {"family_budget": 3250.0}
        assert registry.families.unadopted[Principal("", "greedy")] == (
            "'greedy_500': 500 of 1000 metrics are taken up, 500 of them by greedy, and most, 500, by greedy"
        )


def test_a_metric_refused_to_one_agent_is_taken_up_for_another(tmp_path: Path) -> None:
    with Registry(tmp_path, max_adopted=60) as registry:
        fold(registry, "greedy", 40)
        fold(registry, "honest", 1)
        registry.shard.fold.envelope(envelope(*metrics("greedy", 40), agent="honest"), NOW)
        registry.commit()
        assert held(registry) == {"greedy": 30, "honest": 11}
        assert registry.families.owners["greedy_39"] == Principal("", "honest")


def test_an_agent_without_a_name_goes_by_its_source(tmp_path: Path) -> None:
    with Registry(tmp_path, max_adopted=1000) as registry:
        fold(registry, "unknown", 2, source="host-1")
        fold(registry, "other", 2, user="alice")
        assert held(registry) == {"host-1": 2, "other (user alice)": 2}


def test_owners_outlive_their_fleet_and_an_earlier_versions_metrics_have_none(tmp_path: Path) -> None:
    with Registry(tmp_path, max_adopted=1000) as registry:
        fold(registry, "planner", 2)
    path = tmp_path / "families.jsonl"
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    for line in lines:
        if line["name"] == "planner_0":
            del line["owner"]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    families = Families(tmp_path, Catalogue.load(), 1000)
    assert dict(families.owners) == {"planner_0": Principal("", ""), "planner_1": Principal("", "planner")}
    filled = Fill(Settings(registry_dir=tmp_path), Catalogue.load())
    assert filled.count_adopted() == {"other": 1, "planner": 1}
    assert filled.adopted_budget == 1000
