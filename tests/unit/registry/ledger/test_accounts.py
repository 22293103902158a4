"""The agent that publishes most gives up its own sources first, and a crowd of invented names competes with itself."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon.registry.ledger import accounts
from busmon.registry.ledger import ledger as ledgers
from busmon.registry.ledger.accounts import cuts
from busmon.registry.ledger.ledger import Ledger
from busmon.registry.ledger.source_record import Verdict
from tests.unit.registry.ledger.test_ledger import reloaded
from tests.unit.registry.registries import NOW, Registry


@given(st.dictionaries(st.integers(), st.integers(0, 50), min_size=1), st.data())
def test_the_largest_come_down_to_one_level(sizes: dict[int, int], data: st.DataObject) -> None:
    excess = data.draw(st.integers(0, sum(sizes.values())))
    given_up = cuts(sizes, excess)
    left = {key: size - given_up.get(key, 0) for key, size in sizes.items()}
    assert sum(given_up.values()) == excess
    assert all(left[key] >= 0 for key in sizes)
    reduced = [left[key] for key, amount in given_up.items() if amount]
    if reduced:
        assert max(left.values()) <= min(reduced) + 1
        assert all(left[key] == sizes[key] for key in sizes if sizes[key] < min(reduced))


def crowd(ledger: Ledger, count: int, *, user: str | None = None, agent: str = "", at: float = NOW) -> None:
    """Open so many sources, each by an agent of its own where no agent is given."""
    for number in range(count):
        name = f"{user}-{agent}-{at:.0f}-{number}"
        ledger.admit(name, f"{name}:1", at, user, agent or f"fake-{number}")
    ledger.commit()


def honest(ledger: Ledger, at: float = NOW, user: str | None = None) -> list[str]:
    names = [f"{agent}-{number}" for agent in ("planner", "writer") for number in range(3)]
    for name in names:
        ledger.admit(name, f"{name}:{round(at - NOW) + 1}", at, user, name.partition("-")[0])
    ledger.commit()
    return names


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 100)
    monkeypatch.setattr(accounts, "MAX_ACCOUNTS", 10)


def test_one_agent_with_many_sources_evicts_its_own() -> None:
    ledger = Ledger()
    names = honest(ledger)
    crowd(ledger, 1000, agent="greedy", at=NOW + 1)
    assert len(ledger.sources) == 100
    assert {*names} <= ledger.sources.keys()
    assert ledger.evicted == {"greedy": 906}
    assert [ledger.admit(name, f"{name}:1", NOW + 2) for name in names] == [Verdict.DUPLICATE] * 6
    assert {*names} <= reloaded(ledger).sources.keys()


def test_a_crowd_of_invented_names_evicts_its_own() -> None:
    ledger = Ledger()
    names = honest(ledger)
    for second in range(1, 6):
        crowd(ledger, 200, at=NOW + second)
        honest(ledger, NOW + second)
    assert {*names} <= ledger.sources.keys()
    assert len(ledger.sources) == 100
    assert {*ledger.evicted} == {accounts.OTHERS}


def test_a_user_evicts_nobody_of_another_user_whatever_names_it_invents() -> None:
    ledger = Ledger()
    crowd(ledger, 40, user="agents", agent="planner")
    for second in range(1, 4):
        crowd(ledger, 500, user="evil", at=NOW + second)
    kept = [seen.user for seen in ledger.sources.values()]
    assert (kept.count("agents"), kept.count("evil")) == (40, 60)


def test_of_one_agents_sources_the_longest_unheard_goes_first() -> None:
    ledger = Ledger()
    crowd(ledger, 100, agent="planner")
    first = next(iter(ledger.sources))
    ledger.admit(first, f"{first}:2", NOW + 1, None, "planner")
    crowd(ledger, 50, agent="planner", at=NOW + 2)
    assert first in ledger.sources


def test_a_name_silent_for_longer_than_it_was_heard_leaves_its_account_to_another() -> None:
    ledger = Ledger()
    crowd(ledger, 10)
    crowd(ledger, 1, agent="late", at=NOW + 100)
    crowd(ledger, 2, agent="late", at=NOW + 301)
    crowd(ledger, 500, at=NOW + 302)
    late = [source for source in ledger.sources if "late" in source]
    assert len(late) == 2 + 1 - 1  # the one that came while no account was free is among the crowd's
    assert len(ledger.sources) == 100


def test_accounts_outlive_a_restart_and_who_was_first_keeps_its_own() -> None:
    ledger = Ledger()
    names = honest(ledger)
    crowd(ledger, 300)
    ledger = reloaded(ledger)
    crowd(ledger, 300, at=NOW + 1)
    ledger = reloaded(ledger)
    assert {*names} <= ledger.sources.keys()
    assert len(ledger.forget(NOW + 10)) == 100
    assert not ledger.dump()["accounts"]


def test_a_source_belongs_to_the_user_that_opened_it() -> None:
    ledger = Ledger()
    assert ledger.admit("a", "a:1", NOW, "alice") is Verdict.NEW
    for user in ("evil", None):
        for message_id in ("a:2", "a:1", "other", None, ""):
            assert ledger.admit("a", message_id, NOW + 1, user) is Verdict.FOREIGN
    ledger.commit()
    ledger = reloaded(ledger)
    assert ledger.admit("a", "a:2", NOW + 2, "evil") is Verdict.FOREIGN
    assert ledger.admit("a", "a:2", NOW + 2, "alice") is Verdict.NEW
    ledger.commit()
    assert ledger.find_heard_at("a") == NOW + 2


def test_a_source_that_nobody_signed_takes_everybodys_envelopes() -> None:
    ledger = Ledger()
    assert [ledger.admit("a", f"a:{n}", NOW, user) for n, user in ((1, None), (2, "alice"), (3, "bob"))] == [
        Verdict.NEW
    ] * 3


def test_unchecked_a_source_is_everybodys() -> None:
    ledger = Ledger(checks_users=False)
    assert [ledger.admit("a", f"a:{n}", NOW, user) for n, user in ((1, "alice"), (2, "bob"), (4, None))] == [
        Verdict.NEW
    ] * 3


def test_a_ledger_of_an_earlier_version_is_taken_over() -> None:
    ledger = Ledger()
    ledger.load({"sources": {"a": [7, 0, [[3, 3]], NOW]}, "digests": []})
    assert ledger.admit("a", "a:8", NOW, "alice") is Verdict.NEW
    assert ledger.admit("a", "a:3", NOW, None) is Verdict.NEW
    assert ledger.admit("a", "a:5", NOW, None) is Verdict.DUPLICATE


def test_an_evicted_source_is_counted_once_whatever_is_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 3)
    for life in range(3):
        with Registry(tmp_path) as registry:
            for number in range(4):
                source = f"s-{life}-{number}"
                registry.deliver(f"{source}:1", source=source, now=NOW + life)
                registry.commit(NOW + life)
    with Registry(tmp_path) as registry:
        registry.commit(NOW + 3)
        assert registry.text("busmon_sources_evicted_total") == 'busmon_sources_evicted_total{agent="other"} 9.0\n'


def test_an_eviction_right_before_a_removal_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 3)
    with Registry(tmp_path) as registry:
        hit = {"name": "hits_total", "type": "counter", "value": 1}
        for number in range(5):
            registry.deliver(f"s-{number}:1", hit, source=f"s-{number}")
        registry.drop("hits_total")
        registry.commit()
        assert registry.text("busmon_sources_evicted_total") == 'busmon_sources_evicted_total{agent="other"} 2.0\n'
