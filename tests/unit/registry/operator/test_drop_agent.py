"""All that an agent took is freed by one command, whatever is killed meanwhile, and nothing of others is."""

from pathlib import Path
from typing import Any

import pytest

from busmon.registry.admission.places import Places
from busmon.registry.operator import removal
from busmon.registry.storage import journal, values
from tests.unit.registry.crashes import states
from tests.unit.registry.registries import NOW, Registry, envelope, fresh_directory

HONEST = 'agent_starts_total{agent="honest"} 1.0\norders_total{shop="a"} 5.0\n'


def starts(name: str) -> dict[str, Any]:
    return {"name": "agent_starts_total", "labels": {"agent": name}, "value": 1}


def filled(registry: Registry) -> None:
    orders = {"name": "orders_total", "type": "counter", "labels": {"shop": "a"}, "value": 5}
    registry.shard.fold.envelope(envelope(starts("honest"), orders, agent="honest", source="h"), NOW)
    locked = {"name": "sales_total", "type": "gauge", "value": 7}
    mine = [starts("evil-1"), starts("evil-2"), locked, {"name": "waits", "type": "histogram", "value": 3}]
    registry.shard.fold.envelope(envelope(*mine, agent="evil", source="e"), NOW)
    registry.commit()


def dropped(registry: Registry, agent: str = "evil", user: str | None = None) -> int:
    return removal.drop_agent(registry.shard, agent, user, NOW + 1)


def test_an_agents_metrics_and_label_values_leave_and_their_names_are_free(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        filled(registry)
        assert dropped(registry) == 4
        assert registry.text() == HONEST
        assert {str(owner) for owner in registry.families.owners.values()} == {"honest"}
        places = Places(tmp_path)
        assert "evil" not in {owner.agent for owner in places.owners.values()}
        places.close()
        sold = {"name": "sales_total", "type": "counter", "value": 2}
        registry.shard.fold.envelope(envelope(sold, agent="honest", source="h"), NOW + 2)
        registry.commit(NOW + 2)
        assert registry.text() == HONEST + "sales_total 2.0\n"


def test_the_files_are_rewritten_once_however_many_metrics_leave(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        taken = [{"name": f"taken_{number}_total", "type": "counter", "value": 1} for number in range(20)]
        registry.fold(*taken, agent="evil", source="e")
        registry.fold(starts("honest"), agent="honest", source="h")
        registry.commit()
        assert dropped(registry) == 20
        assert registry.text() == 'agent_starts_total{agent="honest"} 1.0\n'
        assert not registry.families.owners
    assert values.generation_of(tmp_path / "counter_shard0.db") == 1


def test_another_users_agent_of_the_same_name_keeps_what_it_has(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.shard.fold.envelope(envelope(starts("a"), agent="planner"), NOW, "agents")
        registry.shard.fold.envelope(envelope(starts("b"), agent="planner"), NOW, "evil")
        registry.commit()
        assert dropped(registry, "planner", "evil") == 1
        assert registry.text() == 'agent_starts_total{agent="a"} 1.0\n'


def test_every_shard_lets_go_of_it_and_the_last_frees_the_names(tmp_path: Path) -> None:
    with Registry(tmp_path, 0) as first, Registry(tmp_path, 1) as second:
        filled(first)
        filled(second)
        assert dropped(first) == 4
        assert "sales_total" in second.families.owners
        assert dropped(second) == 4
        first.families.refresh()
        assert "sales_total" not in first.families.owners
        assert "evil" not in first.text()


def test_a_removal_that_is_killed_at_any_line_costs_others_nothing_and_can_be_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", 4096)
    monkeypatch.setattr(values, "_INITIAL_BYTES", 1024)
    with fresh_directory() as directory, fresh_directory() as crashed:
        with Registry(directory) as registry:
            filled(registry)
            found = states(directory, lambda _done: dropped(registry))
        assert len(found) > 20
        for state in found:
            state.lay_out(crashed)
            with Registry(crashed) as registry:
                assert 'agent_starts_total{agent="honest"} 1.0' in registry.text(), state.line
                assert 'orders_total{shop="a"} 5.0' in registry.text(), state.line
                dropped(registry)
                assert registry.text() == HONEST, state.line
