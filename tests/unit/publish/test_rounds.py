"""Rounds: what an outage costs, and that what is dropped is counted until somebody has heard it."""

from pathlib import Path
from typing import Any

import pytest

from busmon.errors import BusError
from busmon.publish.batch import Origin
from busmon.publish.rounds import Rounds
from busmon.settings import Settings

from .fake_publisher import FakePublisher
from .gathering import Bench

DROPPED = "busmon_publisher_dropped_total"


class Agent:
    """A bench whose samples go to a fake publisher."""

    def __init__(self, source: str = "analyzer-1", **settings: Any) -> None:
        self.bench = Bench()
        self.publisher = FakePublisher()
        self.confirmed: list[bytes] = []
        origin = Origin(source, "analyzer")
        self.rounds = Rounds(
            origin,
            self.bench.series,
            Settings(**{"spool_bytes": 0} | settings),
            self.publisher,  # type: ignore[arg-type]
            self.confirmed.append,
        )

    def fail(self) -> None:
        self.publisher.failure = BusError("gone")
        with pytest.raises(BusError):
            self.rounds.publish()
        self.publisher.failure = None

    def rows(self, name: str) -> list[list[Any]]:
        tables = [table for stored in self.publisher.stored for table in stored.body["tables"]]
        return [row for table in tables if table["name"] == name for row in table["rows"]]


def test_a_round_publishes_what_was_gathered_and_tells_who_accounts_for_it() -> None:
    agent = Agent()
    agent.bench.counter().inc(3)
    agent.rounds.publish()
    assert agent.rows("tasks_total") == [[3]]
    assert len(agent.confirmed) == 1
    agent.rounds.publish()
    assert len(agent.publisher.stored) == 1


def test_while_the_broker_is_away_series_go_on_gathering_and_envelopes_dont_pile_up() -> None:
    agent = Agent()
    tasks = agent.bench.counter()
    for _ in range(50):
        tasks.inc()
        agent.fail()
    agent.rounds.publish()
    assert agent.rows("tasks_total") == [[1], [49]]
    assert [stored.properties.message_id for stored in agent.publisher.stored] == ["analyzer-1:1", "analyzer-1:2"]
    assert agent.publisher.attempts.count("analyzer-1:1") == 51


def test_what_a_full_buffer_drops_is_counted_and_published_later() -> None:
    agent = Agent(publish_buffer_bytes=65_536)
    tasks = agent.bench.counter("tasks_total", "path")
    for number in range(300):
        tasks.labels(f"{number:0>1000}").inc()
    agent.fail()
    agent.rounds.publish()
    agent.rounds.publish()
    (dropped,) = agent.rows(DROPPED)
    assert dropped[0] == "analyzer"
    assert dropped[1] > 0
    assert len(agent.rows("tasks_total")) + dropped[1] == 300


def test_a_count_of_dropped_samples_that_is_dropped_itself_stays_counted() -> None:
    agent = Agent(publish_buffer_bytes=65_536)
    agent.bench.series.shared.discarded = 1000
    tasks = agent.bench.counter("tasks_total", "path")
    for number in range(300):
        tasks.labels(f"{number:0>1000}").inc()
    agent.fail()
    for _ in range(3):
        agent.rounds.publish()
    dropped = sum(count for _, count in agent.rows(DROPPED))
    assert len(agent.rows("tasks_total")) + dropped == 1300


def test_calls_on_series_beyond_the_bound_are_published_as_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("busmon.publish.series.MAX_SERIES", 1)
    agent = Agent()
    tasks = agent.bench.counter("tasks_total", "path")
    for path in "abc":
        tasks.labels(path).inc()
    agent.rounds.publish()
    assert agent.rows(DROPPED) == [["analyzer", 2]]


def test_a_source_that_has_nothing_to_say_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("busmon.publish.rounds.monotonic", lambda: now)
    agent = Agent()
    silence = agent.bench.series.shared.resend_seconds
    for elapsed, envelopes in ((silence - 1, 0), (1, 1), (1, 1), (silence, 2)):
        now += elapsed
        agent.rounds.publish()
        assert len(agent.publisher.stored) == envelopes
    assert {stored.routing_key for stored in agent.publisher.stored} == {"analyzer.lifecycle"}
    assert all(stored.body["tables"] == [] for stored in agent.publisher.stored)


def test_what_is_lost_at_the_end_is_known() -> None:
    agent = Agent()
    tasks = agent.bench.counter("tasks_total", "path")
    tasks.labels("a").inc()
    agent.fail()
    tasks.labels("b").inc()
    tasks.labels("c").inc()
    assert agent.rounds.close() == (0, 3)


def test_what_is_not_confirmed_at_the_end_is_published_by_the_agents_next_start(tmp_path: Path) -> None:
    first = Agent(spool_dir=tmp_path, spool_bytes=1 << 20)
    tasks = first.bench.counter("tasks_total", "path")
    tasks.labels("a").inc()
    first.fail()
    tasks.labels("b").inc(2)
    assert first.rounds.close() == (2, 0)
    second = Agent("analyzer-2", spool_dir=tmp_path, spool_bytes=1 << 20)
    second.bench.counter("tasks_total", "path").labels("c").inc(3)
    second.rounds.publish()
    assert second.rows("tasks_total") == [["c", 3], ["a", 1], ["b", 2]]
    ids = [stored.properties.message_id for stored in second.publisher.stored]
    assert ids == ["analyzer-2:1", "analyzer-1:1", "analyzer-1:2", "analyzer-1:3"]
    assert second.publisher.stored[-1].body["final"] is True, "the gauges of a process that is gone leave"
    assert list((tmp_path / "analyzer").iterdir()) == []


def test_processes_that_die_in_turn_leave_no_more_on_disk_than_one_may(tmp_path: Path) -> None:
    options = {"spool_dir": tmp_path, "spool_bytes": 40 * 4096}
    made = 0
    for run in range(10):
        agent = Agent(f"analyzer-{run}", **options)
        for _ in range(10):
            agent.bench.counter(f"tasks_{made}_total").inc()
            made += 1
            agent.fail()
            agent.rounds._gather()
        agent.rounds.close()
    heir = Agent("analyzer-heir", **options)
    heir.rounds.publish()
    heir.rounds.publish()
    counted = [table for stored in heir.publisher.stored for table in stored.body["tables"] if "tasks" in table["name"]]
    dropped = sum(count for _, count in heir.rows(DROPPED))
    assert 0 < len(counted) <= 40
    assert len(counted) + dropped == made


def test_observations_that_cant_be_folded_go_to_disk_before_they_are_too_many(tmp_path: Path) -> None:
    agent = Agent(spool_dir=tmp_path, spool_bytes=1 << 24, publish_buffer_bytes=65_536)
    agent.bench.series.shared.max_values = 2000
    sizes = agent.bench.summary()
    agent.bench.counter().inc()
    agent.fail()
    for _ in range(50):
        for _ in range(1100):
            sizes.observe(1)
        agent.rounds.idle()
    agent.rounds.publish()
    assert sum(len(values) for (values,) in agent.rows("bytes")) == 55_000
    assert agent.rows(DROPPED) == []


def test_waits_grow_while_it_fails_and_start_over_after_a_success() -> None:
    agent = Agent()
    waits = [agent.rounds.back_off() for _ in range(50)]
    assert max(waits[:2]) < max(waits)
    agent.rounds.publish()
    assert agent.rounds.back_off() < 1
