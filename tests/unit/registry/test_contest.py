"""One agent's label values don't keep others' out, and newcomers take nothing from who was there for long."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from busmon.registry.admission.contest import Held, given_up, is_unseen
from busmon.registry.admission.places import Place, Places
from busmon.registry.principal import NOBODY, Principal

from .registries import NOW, Registry, envelope
from .test_admission import TEN

GREEDY, HONEST = Principal("", "greedy"), Principal("", "honest")


def starts(prefix: str, count: int) -> list[dict[str, Any]]:
    names = [f"{prefix}-{number}" for number in range(count)]
    return [{"name": "agent_starts_total", "labels": {"agent": name}, "value": 1} for name in names]


def fold(registry: Registry, agent: str, count: int, now: float = NOW, *, user: str | None = None) -> None:
    registry.shard.fold.envelope(envelope(*starts(agent, count), agent=agent, source=agent), now, user)
    registry.commit(now)


def names(registry: Registry) -> set[str]:
    lines = registry.text("agent_starts_total").splitlines()
    return {line.split('"')[1] for line in lines}


def test_a_greedy_agent_gives_places_to_those_below_their_share_at_once(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        fold(registry, "greedy", 15)
        assert len(names(registry)) == 11
        fold(registry, "honest", 1, NOW + 3)
        assert registry.tidy(NOW + 4) == 1
        assert "honest-0" in names(registry)
        assert names(registry) >= {f"greedy-{number}" for number in range(9)}
        fold(registry, "greedy", 15, NOW + 70)
        registry.tidy(NOW + 71)
        assert {"honest-0", "other"} <= names(registry)
        assert len(names(registry)) == 11


def test_a_value_that_lost_its_place_is_not_let_in_again_however_lately_it_was_seen(tmp_path: Path) -> None:
    with Registry(tmp_path, 0, budgets=TEN) as first, Registry(tmp_path, 1, budgets=TEN) as second:
        fold(first, "greedy", 10)
        fold(second, "honest", 1, NOW + 3)
        fold(first, "greedy", 10, NOW + 4)
        first.tidy(NOW + 5)
        places = Places(tmp_path)
        taken = places.taken("agent_starts_total", "agent")
        assert ("honest-0" in taken, len(taken), len(places.lost)) == (True, 10, 1)
        assert places.owners[Place("agent_starts_total", "agent", "honest-0")] == HONEST
        places.close()


def test_who_was_there_for_an_hour_keeps_all_its_places(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        fold(registry, "old", 10)
        fold(registry, "old", 10, NOW + 3601)
        fold(registry, "new", 3, NOW + 3700)
        assert registry.tidy(NOW + 3701) == 0
        assert names(registry) == {"other", *(f"old-{number}" for number in range(10))}


def test_a_crowd_that_was_heard_once_leaves_in_some_minutes(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        for number in range(15):
            registry.shard.fold.envelope(envelope(*starts(f"fake{number}", 1), agent=f"fake-{number}"), NOW)
        registry.commit()
        fold(registry, "honest", 1, NOW + 100)
        assert "honest-0" not in names(registry)
        fold(registry, "honest", 1, NOW + 301)
        registry.tidy(NOW + 302)
        assert "honest-0" in names(registry)


def test_a_user_gives_places_to_another_whatever_names_it_invents(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        for number in range(15):
            fold(registry, f"fake{number}", 1, user="evil")
        fold(registry, "honest", 1, NOW + 3, user="agents")
        registry.tidy(NOW + 4)
        assert "honest-0" in names(registry)


def test_presence_has_room_for_a_thousand_agents(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=replace(TEN, label_values=100)) as registry:
        for number in range(1100):
            registry.shard.fold.attend(f"s-{number}", f"fake-{number}", NOW)
        registry.commit()
        assert len(registry.text("active_agents").splitlines()) == 1000


def test_places_of_an_earlier_version_are_taken_from_nobody() -> None:
    held = {f"v{number}": Held(NOW) for number in range(10)}
    assert given_up(held, {}, HONEST, 10, NOW + 10_000) == []
    assert given_up({**held, "w": Held(NOW, GREEDY)}, {}, HONEST, 11, NOW + 10_000) == ["w"]
    assert given_up({}, {}, HONEST, 0, NOW) == []


def test_a_value_of_another_that_lived_for_long_is_missed_for_as_long() -> None:
    day = 86_400.0
    place = Held(NOW, GREEDY)
    assert is_unseen(place, NOW + day / 2, GREEDY, day, NOW + 2 * day)
    assert is_unseen(place, NOW + day / 2, HONEST, day, NOW + 2 * day)
    assert not is_unseen(place, NOW + 5 * day, HONEST, day, NOW + 9 * day)
    assert is_unseen(place, NOW + 5 * day, GREEDY, day, NOW + 9 * day)
    assert is_unseen(place, NOW + 5 * day, HONEST, day, NOW + 11 * day)
    assert is_unseen(Held(NOW, NOBODY), NOW + 5 * day, HONEST, day, NOW + 7 * day)
