"""One agent's label values don't keep others' out, and newcomers take nothing from who was there for long."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from busmon.registry.admission.contest import HeldPlace, choose_given_up, is_below_share, is_unseen, reserve
from busmon.registry.admission.places import Place, Places
from busmon.registry.admission.principal import NOBODY, Principal
from tests.unit.registry.admission.test_admission import TEN
from tests.unit.registry.registries import NOW, Registry, envelope

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
        taken = places.find_taken("agent_starts_total", "agent")
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
            registry.shard.fold.own.attend(f"s-{number}", f"fake-{number}", NOW)
        registry.commit()
        assert len(registry.text("active_agents").splitlines()) == 1000


def test_places_of_an_earlier_version_are_taken_from_nobody() -> None:
    held = {f"v{number}": HeldPlace(NOW) for number in range(10)}
    assert choose_given_up(held, {}, HONEST, 10, NOW + 10_000) == []
    assert choose_given_up({**held, "w": HeldPlace(NOW, GREEDY)}, {}, HONEST, 11, NOW + 10_000) == ["w"]
    assert choose_given_up({}, {}, HONEST, 0, NOW) == []


def test_a_value_of_another_that_lived_for_long_is_missed_for_as_long() -> None:
    day = 86_400.0
    place = HeldPlace(NOW, GREEDY)
    assert is_unseen(place, NOW + day / 2, GREEDY, day, NOW + 2 * day)
    assert is_unseen(place, NOW + day / 2, HONEST, day, NOW + 2 * day)
    assert not is_unseen(place, NOW + 5 * day, HONEST, day, NOW + 9 * day)
    assert is_unseen(place, NOW + 5 * day, GREEDY, day, NOW + 9 * day)
    assert is_unseen(place, NOW + 5 * day, HONEST, day, NOW + 11 * day)
    assert is_unseen(HeldPlace(NOW, NOBODY), NOW + 5 * day, HONEST, day, NOW + 7 * day)


# -- users share before their agents do ------------------------------------------------------------------------------


def crowd(registry: Registry, first: int, count: int, user: str | None, now: float = NOW) -> None:
    """Let as many agents as there are values publish one each, as invented agents do."""
    for number in range(first, first + count):
        [sample] = starts(f"fake{number}", 1)
        registry.shard.fold.envelope(envelope(sample, agent=f"fake-{number}", source=f"fake-{number}"), now, user)
    registry.commit(now)


HUNDRED = replace(TEN, label_values=100)


def test_a_crowd_of_invented_agents_takes_nothing_from_another_user(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=HUNDRED) as registry:
        fold(registry, "honest", 4, user="agents")
        for second in range(8):
            crowd(registry, 200 * second, 200, None, NOW + second)
            registry.tidy(NOW + second)
        assert names(registry) >= {f"honest-{number}" for number in range(4)}
        assert len(names(registry)) == 100 - 10 + 1


def test_a_newcomer_has_its_place_at_once_where_a_crowd_of_another_user_publishes(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=HUNDRED) as registry:
        crowd(registry, 0, 300, None)
        fold(registry, "first", 1, NOW + 3, user="agents")
        crowd(registry, 300, 300, None, NOW + 3)
        for number in range(9):
            fold(registry, f"later{number}", 1, NOW + 3, user="agents")
            crowd(registry, 600 + 50 * number, 50, None, NOW + 3)
        counted = {"first-0", *(f"later{number}-0" for number in range(9))}
        assert names(registry) >= counted


def test_looks_for_places_of_one_users_crowd_leave_another_user_its_own(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=TEN) as registry:
        crowd(registry, 0, 500, "evil")
        fold(registry, "honest", 1, NOW + 2, user="agents")
        assert "honest-0" in names(registry)


def test_presence_of_a_user_has_room_where_a_crowd_of_another_took_all(tmp_path: Path) -> None:
    with Registry(tmp_path, budgets=HUNDRED) as registry:
        for number in range(1100):
            registry.shard.fold.own.attend(f"s-{number}", f"fake-{number}", NOW)
        registry.commit()
        registry.shard.fold.own.attend("s", "honest", NOW + 3, "agents")
        registry.commit(NOW + 3)
        assert 'active_agents{type="honest"} 1.0' in registry.text("active_agents").splitlines()


def test_places_are_reserved_for_users_below_their_share_only_where_there_are_two() -> None:
    assert [reserve(budget) for budget in (0, 9, 10, 100, 1000)] == [0, 0, 1, 10, 100]
    assert is_below_share({}, "a", 10)
    assert not is_below_share({"a": 10}, "a", 10)
    assert is_below_share({"a": 9}, "a", 10)
    assert not is_below_share({"a": 5, "b": 1}, "a", 10)
    assert is_below_share({"a": 5}, "b", 10)


def test_of_two_users_below_a_greedy_third_each_takes_up_to_its_share() -> None:
    evil = {f"e{number}": HeldPlace(NOW, Principal("evil", f"fake-{number}")) for number in range(94)}
    alice = {f"a{number}": HeldPlace(NOW, Principal("alice", "one")) for number in range(6)}
    asker = Principal("alice", "two")
    assert len(choose_given_up({**evil, **alice}, {}, asker, 100, NOW + 3)) == 10
    full = {f"a{number}": HeldPlace(NOW, Principal("alice", "one")) for number in range(50)}
    assert choose_given_up({**dict(list(evil.items())[:50]), **full}, {}, asker, 100, NOW + 3) == [
        f"a{number}" for number in range(49, 39, -1)
    ]
    assert choose_given_up({**evil, **alice}, {}, Principal("evil", "more"), 100, NOW + 3) == []


def test_a_silent_value_of_a_user_below_its_share_does_not_go_to_one_above() -> None:
    evil = {f"e{number}": HeldPlace(NOW + 300, Principal("evil", f"fake-{number}")) for number in range(96)}
    quiet = {f"q{number}": HeldPlace(NOW, Principal("agents", "quiet")) for number in range(4)}
    assert choose_given_up({**evil, **quiet}, {}, Principal("evil", "more"), 100, NOW + 400) == []
    assert len(choose_given_up({**evil, **quiet}, {}, Principal("third", "one"), 100, NOW + 400)) == 10
