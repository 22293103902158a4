"""Gauges by source: what presence says counts only where no source speaks for itself, and who stops leaves at once."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import RejectedError
from busmon.registry.series import shares
from tests.unit.registry.registries import NOW, Registry

AGENTS: dict[str, Any] = {"name": "active_agents", "labels": {"type": "planner"}, "value": 2}
QUEUE = {"name": "queue_size", "labels": {"queue": "q"}, "value": 42}


def attend(registry: Registry, *sources: str, agent: str = "planner", now: float = NOW) -> None:
    """Envelopes of these sources, none of which says how many they are."""
    for source in sources:
        registry.deliver(None, source=source, agent=agent, now=now)
        registry.shard.fold.own.attend(source, agent, now)


def agents(registry: Registry) -> str:
    return registry.text("active_agents")


def test_live_sources_are_counted_by_their_agent(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        attend(registry, "p-1", "p-2")
        attend(registry, "w-1", agent="writer")
        attend(registry, "x-1", agent="unknown")
        registry.commit()
        assert agents(registry) == 'active_agents{type="planner"} 2.0\nactive_agents{type="writer"} 1.0\n'
        attend(registry, "p-1", now=NOW + 100)
        registry.commit(NOW + 100)
        assert registry.shard.expire(NOW + 50) == 2
        registry.commit(NOW + 100)
        assert agents(registry) == 'active_agents{type="planner"} 1.0\n'


def test_what_sources_say_themselves_alone_counts(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        attend(registry, "p-1", "p-2")
        registry.fold(AGENTS, source="p-1")
        attend(registry, "p-1", now=NOW + 100)
        registry.commit()
        assert agents(registry) == 'active_agents{type="planner"} 2.0\n'
    with Registry(tmp_path) as registry:
        attend(registry, "p-3", "p-1", now=NOW + 200)
        registry.commit(NOW + 200)
        assert agents(registry) == 'active_agents{type="planner"} 2.0\n'
        registry.shard.fold.leave(["p-1"])
        registry.commit(NOW + 200)
        assert agents(registry) == 'active_agents{type="planner"} 2.0\n'  # p-2 and p-3, by their presence


def test_a_late_reading_still_takes_the_place_of_a_derived_one(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        attend(registry, "p-1")
        registry.fold(AGENTS | {"ts": NOW - 30, "value": 7}, source="p-1")
        registry.commit()
        assert agents(registry) == 'active_agents{type="planner"} 7.0\n'


def test_presence_is_said_again_only_after_a_while(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        attend(registry, "p-1")
        registry.commit()
        for seconds, changed in ((1, False), (59, False), (60, True)):
            attend(registry, "p-1", now=NOW + seconds)
            shares = registry.shard._files.columns["gauge_sum"].shares
            assert bool(list(shares.dump(whole=False))) is changed
            registry.commit()


def test_a_source_that_says_it_stops_leaves_at_once(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE, AGENTS, source="p-1")
        registry.fold(AGENTS, source="p-2")
        registry.commit()
        registry.fold(QUEUE, source="p-1", final=True)
        registry.commit()
        assert registry.text() == 'active_agents{type="planner"} 2.0\n'


def test_nothing_is_derived_where_the_metric_means_something_else(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("catalogue") / "own.toml"
    own.write_text('[gauge.active_agents]\nhelp = "Agents that run"\nlabels = ["type"]\nmerge = "max"\n')
    with Registry(tmp_path, catalogue=Catalogue.load([own])) as registry:
        attend(registry, "p-1")
        registry.commit()
        assert agents(registry) == ""


def test_a_shard_remembers_so_many_gauges_of_sources_and_of_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES", 5)
    monkeypatch.setattr(shares, "MAX_SHARES_OF_AGENT", 3)
    with Registry(tmp_path) as registry:
        for _ in range(2):
            for agent in ("greedy", "modest"):
                for number in range(4):
                    registry.fold(QUEUE, source=f"{agent}-{number}", agent=agent)
                    table = {"name": "queue_size", "labels": ["queue"], "rows": [["r", 1]]}
                    registry.fold(tables=[table], source=f"{agent}-0", agent=agent)
            registry.commit()
        assert registry.shard.fold._room.taken == 5
        rejected = registry.text("busmon_samples_rejected_total").splitlines()
        assert rejected == [
            'busmon_samples_rejected_total{agent="greedy",reason="share_budget"} 4.0',
            'busmon_samples_rejected_total{agent="modest",reason="share_budget"} 6.0',
        ]
        registry.fold(source="greedy-0", agent="greedy", final=True)
        registry.commit()
        registry.fold(QUEUE, source="modest-9", agent="modest")
        registry.commit()
        assert registry.shard.fold._room.taken == 4
    with Registry(tmp_path) as registry:
        assert registry.shard.fold._room.taken == 4


def test_an_agent_without_room_leaves_it_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "MAX_SHARES", 5)
    monkeypatch.setattr(shares, "MAX_SHARES_OF_AGENT", 3)
    room = shares.Room()
    room.agent = "greedy"
    for _ in range(3):
        assert room.is_wide("g", 1)
        room.take("g")
    assert not room.is_wide("g", 1)
    assert not room.is_wide("g-2", 1)
    room.agent = "modest"
    assert not room.is_wide("g", 1)
    assert [room.is_wide("m", more) for more in range(4)] == [True, True, True, False]
    room.add("m")  # by the shard's files, which name no agent
    assert [room.is_wide("m", more) for more in range(3)] == [True, True, False]
    room.take("m")
    assert not room.is_wide("m", 1)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 4), st.booleans()), max_size=30)
)
def test_a_room_that_is_wide_takes_as_many_shares(steps: list[tuple[str, str, int, bool]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shares, "MAX_SHARES", 9)
        patch.setattr(shares, "MAX_SHARES_OF_AGENT", 5)
        room = shares.Room()
        for room.agent, source, more, is_filed in steps:
            if room.is_wide(source, more):
                for _ in range(more):
                    (room.add if is_filed else room.take)(source)
            elif is_filed:
                room.add(source)


def test_room_is_given_back_by_whatever_takes_a_share_out(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        room = registry.shard.fold._room
        registry.deliver(None, QUEUE, source="a")
        registry.shard.rollback()
        assert room.taken == 0
        registry.deliver(None, QUEUE, source="a")
        registry.deliver(None, QUEUE, source="a", final=True)
        registry.commit()
        assert room.taken == 0
        registry.deliver(None, QUEUE, source="a")
        registry.commit()
        attend(registry, "a", "b")
        registry.commit()
        assert room.taken == 1
        registry.deliver(None, QUEUE, source="b", now=NOW + 500)
        assert registry.shard.expire(NOW + 100) == 1
        registry.commit(NOW + 500)
        assert room.taken == 1
        assert (room._agents, dict(room._of_agent)) == ({"b": "tester"}, {"tester": 1})


def test_a_source_that_is_known_updates_its_gauges_when_there_is_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE)
        registry.commit()
    monkeypatch.setattr(shares, "MAX_SHARES", 1)
    with Registry(tmp_path) as registry:
        registry.fold({**QUEUE, "value": 7}, now=NOW + 1)
        registry.fold(QUEUE, source="other", now=NOW + 1)
        registry.commit(NOW + 1)
        assert registry.text("queue_size") == 'queue_size{queue="q"} 7.0\n'
        assert registry.rejected() == {"share_budget": 1}


def test_moves_and_replacements_take_room_once(monkeypatch: pytest.MonkeyPatch) -> None:
    held = shares.Shares(shares.MERGES["gauge_sum"])
    monkeypatch.setattr(shares, "MAX_SHARES", 2)
    for at in (NOW, NOW + 1):
        held.move(0, "a", 1, at)
        held.replace(1, "a", 1, at)
        held.drop(("a",))
        held.move(0, "a", 1, at)
        held.set(1, "a", 2, at)
        for attempt in (held.move, held.replace, held.set):
            with pytest.raises(RejectedError, match="no place is left"):
                attempt(2, "a", 1, at)
        held.commit()
        assert held.room.taken == 2
    held.drop(("a",))
    held.commit()
    assert held.room.taken == 0
