"""Series that are removed by hand, and value files without them: all of it or nothing, whatever dies when."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.errors import RegistryError
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.storage import compaction, journal, values
from busmon.registry.storage.journal import Journal
from tests.unit.registry.crashes import State, states
from tests.unit.registry.registries import (
    CATALOGUE,
    NOW,
    Registry,
    Series,
    fresh_directory,
    parsed,
    scrape,
    series,
    stock,
)


def vote(kind: str, value: float = 1) -> dict[str, Any]:
    return {"name": "votes_cast_total", "labels": {"type": kind}, "value": value}


def agents(kind: str, value: float) -> dict[str, Any]:
    return {"name": "active_agents", "labels": {"type": kind}, "value": value}


def wait(agent: str, *waits: float) -> dict[str, Any]:
    return {"name": "task_duration_seconds", "labels": {"agent": agent}, "values": list(waits)}


SIZES = {"name": "request_size_bytes", "values": [100, 200]}


def first_batch(registry: Registry) -> None:
    registry.deliver("a:1", vote("up", 3), vote("down", 4), agents("x", 1), agents("y", 2), SIZES, source="a")
    registry.deliver("b:1", agents("x", 5), agents("y", 6), wait("p", 0.2), wait("q", 3, 4), source="b")
    registry.commit(NOW)


def drop_some(registry: Registry) -> None:
    registry.drop("active_agents", {"type": "x"}, NOW + 1)


def drop_all(registry: Registry) -> None:
    registry.drop("votes_cast_total", {}, NOW + 1)


def second_batch(registry: Registry) -> None:
    registry.deliver("a:2", vote("down", 10), agents("y", 7), agents("x", 9), wait("q", 0.1), source="a")
    registry.commit(NOW + 2)


OPERATIONS = [first_batch, drop_some, drop_all, second_batch]


def counted(samples: dict[Series, float]) -> dict[Series, float]:
    """Leave busmon's own measures of batches out: a repeated drop commits one more."""
    return {key: value for key, value in samples.items() if value and not key[0].startswith("busmon_")}


@pytest.fixture(autouse=True, scope="module")
def _small_files() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "CAPACITY_BYTES", 4096)
        patch.setattr(values, "_INITIAL_BYTES", 1024)
        yield


@pytest.fixture(scope="module")
def after() -> list[dict[Series, float]]:
    """Scrape before the first operation and after each one."""
    with fresh_directory() as directory, Registry(directory) as registry:
        stages: list[dict[Series, float]] = [{}]
        for operate in OPERATIONS:
            operate(registry)
            stages.append(counted(stock(directory)))
    return stages


def test_a_removed_series_is_gone_and_all_else_stays_as_it_is(after: list[dict[Series, float]]) -> None:
    before, without_x, without_votes, at_last = after[1:]
    x = series("active_agents", type="x")
    assert before[x] == 6
    assert without_x == {key: value for key, value in before.items() if key != x}
    votes = {key: value for key, value in without_x.items() if key[0] == "votes_cast_total"}
    assert sorted(votes.values()) == [3, 4]
    assert without_votes == {key: value for key, value in without_x.items() if key not in votes}
    assert at_last[series("votes_cast_total", type="down")] == 10
    assert at_last[x] == 9
    assert at_last[series("active_agents", type="y")] == 13
    assert at_last[series("task_duration_seconds_sum", agent="q")] == pytest.approx(7.1)


@pytest.mark.parametrize("fsync", [False, True])
def test_a_kill_at_any_line_removes_all_or_nothing(
    after: list[dict[Series, float]], tmp_path_factory: pytest.TempPathFactory, *, fsync: bool
) -> None:
    directory, crashed = tmp_path_factory.mktemp("life"), tmp_path_factory.mktemp("crashed")

    def life(done: list[Any]) -> None:
        with Registry(directory, fsync=fsync) as registry:
            for operate in OPERATIONS:
                operate(registry)
                done.append(operate)

    lived = states(directory, life)
    assert {state.done for state in lived} == {*range(len(OPERATIONS) + 1)}
    assert any(name.endswith(compaction.DRAFT_SUFFIX) for state in lived for name in state.files)
    for state in lived[:: 1 + fsync]:
        check(state, crashed, after)


def check(state: State, crashed: Path, after: list[dict[Series, float]]) -> None:
    before_or_after = after[state.done : state.done + 2]
    state.lay_out(crashed)
    scraped = Exposition(crashed)
    own = {key: value for key, value in counted(parsed(scraped.text())).items() if "quantile" not in dict(key[1])}
    assert own in before_or_after, state.line
    assert not scraped.skipped, state.line
    with Registry(crashed) as registry:
        assert counted(stock(crashed)) in before_or_after, state.line
        for operate in OPERATIONS[state.done :]:
            operate(registry)
    assert counted(stock(crashed)) == after[-1], state.line
    assert not [*crashed.glob(f"*{compaction.DRAFT_SUFFIX}")], state.line


def test_a_running_exporter_follows_a_removal(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        for operate in OPERATIONS:
            operate(registry)
            served = {key: value for key, value in counted(parsed(exposition.text())).items() if not _is_quantile(key)}
            assert served == counted(stock(tmp_path))
            assert not exposition.skipped


def _is_quantile(key: Series) -> bool:
    return "quantile" in dict(key[1])


def test_a_summarys_quantiles_go_and_come_with_it(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        first_batch(registry)
        registry.drop("request_size_bytes", {}, NOW)
        assert scrape(tmp_path, "request_size") == ""
        registry.fold({"name": "request_size_bytes", "value": 7})
        registry.commit(NOW)
    with Registry(tmp_path):
        assert counted(stock(tmp_path))[series("request_size_bytes_sum")] == 7


def test_a_full_disk_removes_nothing_and_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(tmp_path) as registry:
        first_batch(registry)
        before = counted(stock(tmp_path))

        def full(*_: object, **__: object) -> Journal:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Journal, "create", full)
            with pytest.raises(OSError, match="No space"):
                drop_some(registry)
        assert counted(stock(tmp_path)) == before
        assert not [*tmp_path.glob(f"*{compaction.DRAFT_SUFFIX}")]
        drop_some(registry)
        second_batch(registry)
    assert counted(stock(tmp_path))[series("active_agents", type="x")] == 9


def test_a_file_that_is_not_the_one_its_journal_counts_on_is_named(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        first_batch(registry)
        old = (tmp_path / "gauge_sum_shard0.db").read_bytes()
        drop_some(registry)
    (tmp_path / "gauge_sum_shard0.db").write_bytes(old)
    with pytest.raises(RegistryError, match=r"gauge_sum_shard0\.db: it is generation 0, and the shard's journal count"):
        Registry(tmp_path)


def test_a_copy_of_the_directory_is_as_good_as_the_directory(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    original.mkdir()
    copy.mkdir()
    with Registry(original) as registry:
        first_batch(registry)
        drop_some(registry)
    for path in original.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    with Registry(copy) as registry:
        second_batch(registry)
    assert counted(stock(copy))[series("active_agents", type="y")] == 13


def test_a_family_whose_last_series_is_gone_may_be_defined_anew(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[gauge.active_agents]\nhelp = "Agents"\nlabels = ["kind"]')
    changed = Catalogue.load([path])
    with Registry(tmp_path, 0) as first, Registry(tmp_path, 1) as second:
        for registry in (first, second):
            registry.fold(agents("x", 1))
            registry.commit()
            assert registry.families.reload(changed) == ["active_agents"]
        assert first.drop("active_agents", {}, NOW) == 1
        assert first.families.list_refused() == ["active_agents"]
        assert second.drop("active_agents", {}, NOW) == 1
        first.families.refresh()
        first.shard.fold.reroute()
        for registry in (first, second):
            assert registry.families.list_refused() == []
            registry.fold({"name": "active_agents", "labels": {"kind": "x"}, "value": 3})
            registry.commit()
            assert registry.rejected() == {}
    assert {key: value for key, value in stock(tmp_path).items() if key[0] == "active_agents"} == {
        series("active_agents", kind="x"): 3
    }


def test_a_family_that_is_published_again_meanwhile_keeps_its_definition(tmp_path: Path) -> None:
    with Registry(tmp_path, 0) as first, Registry(tmp_path, 1) as second:
        second.fold(agents("x", 1))
        second.commit()
        first.fold(agents("x", 1))
        first.commit()
        second.drop("active_agents", {}, NOW)
        first.drop("active_agents", {}, NOW)
        assert "active_agents" not in {family.name for family in first.families.frozen()}
        second.fold(agents("x", 2))
        second.commit()
        first.families.refresh()
        assert "active_agents" in {family.name for family in first.families.frozen()}


def test_an_adopted_family_that_is_dropped_gives_its_place_to_another(tmp_path: Path) -> None:
    with Registry(tmp_path, max_adopted=1) as registry:
        registry.fold({"name": "a", "type": "gauge", "value": 1}, {"name": "b", "type": "gauge", "value": 1})
        registry.commit()
        assert registry.rejected() == {"family_budget": 1}
        assert registry.drop("a", {}, NOW) == 1
        registry.fold({"name": "b", "type": "gauge", "value": 2})
        registry.commit()
    assert stock(tmp_path)[series("b")] == 2


def test_what_takes_no_removal_is_not_rewritten(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        first_batch(registry)
        assert registry.drop("active_agents", {"type": "nobody"}, NOW) == 0
        assert registry.drop("never_written", {}, NOW) == 0
        assert registry.shard._files.values["gauge_sum"].generation == 0
        drop_some(registry)
        assert registry.shard._files.values["gauge_sum"].generation == 1
        assert registry.shard._files.values["counter"].generation == 0


def test_a_rewritten_file_is_as_small_as_its_entries(tmp_path: Path) -> None:
    families = replace(CATALOGUE)
    with Registry(tmp_path, catalogue=families) as registry:
        registry.fold(*(vote(f"kind-{i}") for i in range(500)), vote("up"))
        registry.commit()
        large = (tmp_path / "counter_shard0.db").stat().st_size
        for i in range(500):
            registry.shard.fold.own.count("busmon_envelopes_rejected_total", (f"{i}",))
        registry.drop("votes_cast_total", {}, NOW)
        registry.drop("busmon_envelopes_rejected_total", {}, NOW)
        assert (tmp_path / "counter_shard0.db").stat().st_size < large / 8
