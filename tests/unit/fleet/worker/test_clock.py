"""A clock that is set by days, ahead and back, leaves nothing behind: gauges move, agents are seen, places are kept."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from busmon import wall_clock
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.admission.sweep import SWEEP_SECONDS
from busmon.wall_clock import ClockSteps
from tests.unit.fleet.settlements import NOW, Worker, body, delivery

DAYS = 2 * 86_400.0
LEVEL: dict[str, Any] = {"name": "queue_size", "labels": {"queue": "q"}}


def say(worker: Worker, tag: int, value: float, **stated: Any) -> None:
    """An envelope with this level, in a batch of its own."""
    worker.lane.deliver([delivery(tag, body({**LEVEL, "value": value, **stated}))])
    worker.lane.close(Trigger.INTERVAL)


def seen(worker: Worker) -> float:
    return worker.shows("busmon_last_envelope_timestamp_seconds", agent="planner")


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
def test_a_clock_that_was_days_ahead_freezes_nothing(
    restarted: bool,  # noqa: FBT001
    clock: SimpleNamespace,
    tmp_path: Path,
) -> None:
    with Worker(tmp_path) as worker:
        say(worker, 1, 1)
        clock.now = NOW + DAYS
        say(worker, 2, 2)
        assert seen(worker) == NOW + DAYS
        clock.now = NOW + 5
        if not restarted:
            say(worker, 3, 3)
            assert (worker.shows("queue_size"), seen(worker)) == (3, NOW + 5)
    with Worker(tmp_path) as worker:
        worker.registry.shard.rewind(clock.now)
        assert seen(worker) == NOW + 5
        clock.now += 1
        say(worker, 4, 4)
        assert (worker.shows("queue_size"), seen(worker)) == (4, NOW + 6)


def test_a_clock_that_was_an_hour_behind_freezes_no_gauge_with_a_right_time(
    clock: SimpleNamespace, tmp_path: Path
) -> None:
    with Worker(tmp_path) as worker:
        say(worker, 1, 1, ts=NOW - 1)
        clock.now = NOW - 3600
        for value in (2, 3):
            clock.now += 1
            say(worker, value, value, ts=NOW + value)
            assert worker.shows("queue_size") == value
        clock.now = NOW + 10
        say(worker, 4, 4, ts=NOW + 4)
        assert worker.shows("queue_size") == 4


def test_an_agent_that_was_last_heard_in_the_future_is_as_old_as_the_clocks_return(
    clock: SimpleNamespace, tmp_path: Path
) -> None:
    """Else its silence isn't seen until the clock comes there."""
    with Worker(tmp_path) as worker:
        clock.now = NOW + DAYS
        say(worker, 1, 1)
        worker.registry.shard.follow_step(-DAYS, NOW + 7)
        assert seen(worker) == NOW + 7
        assert worker.registry.shard.ledger.find_heard_at("s") == NOW + 7
        assert worker.registry.shard.expire(NOW + 8) == 1
    with Worker(tmp_path) as worker:
        assert seen(worker) == NOW + 7
        assert worker.registry.shard.ledger.find_heard_at("s") == NOW + 7


def test_after_a_step_forwards_everything_is_as_old_as_before(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        shard = worker.registry.shard
        say(worker, 1, 1)
        clock.now = NOW + 60
        worker.lane.deliver([delivery(2)])
        worker.lane.close(Trigger.INTERVAL)
        shard.follow_step(DAYS, NOW + 100 + DAYS)
        assert shard.ledger.find_heard_at("s") == NOW + 60 + DAYS
        assert shard.expire(NOW + DAYS) == 0
        group = shard.fold.groups["votes_cast_total"]
        assert shard.find_updated_at(group, ("upvote",)) == NOW + 60 + DAYS
        shard.commit(NOW + 100 + DAYS)
        shard._state.checkpoint(NOW + 100 + DAYS)
        assert shard.ledger.knows("s")
        shard.follow_step(-DAYS, NOW + 101)
        assert shard.ledger.find_heard_at("s") == NOW + 101


def test_an_open_batch_stays_open_when_the_clock_is_set_back(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        clock.now = NOW + DAYS
        worker.lane.deliver([delivery(1, body({**LEVEL, "value": 1}))])
        clock.now = NOW
        worker.lane.deliver([delivery(2, body({**LEVEL, "value": 2}))])
        assert worker.broker.settled == []
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.settled == [1, 2]
        clock.now += 1
        say(worker, 3, 3)
        assert worker.shows("queue_size") == 3


def test_no_place_is_given_back_for_a_while_after_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(tmp_path) as worker:
        sweep, family = worker.registry.shard.admission._sweep, worker.registry.families.get("tasks_processed_total")
        assert family is not None
        wall, running = time.time(), time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: running)
        monkeypatch.setattr(time, "clock_gettime", lambda _: time.monotonic())
        monkeypatch.setattr(time, "time", lambda: wall)
        sweep._steps = ClockSteps()
        assert sweep.is_due(family, wall, SWEEP_SECONDS)
        monkeypatch.setattr(time, "time", lambda: wall + DAYS)
        assert not sweep.is_due(family, wall + DAYS, SWEEP_SECONDS)
        monkeypatch.setattr(time, "time", lambda: wall + DAYS + 599)
        monkeypatch.setattr(time, "monotonic", lambda: running + 599)
        assert not sweep.is_due(family, wall + DAYS + 599, SWEEP_SECONDS)
        monkeypatch.setattr(time, "time", lambda: wall + DAYS + 601)
        monkeypatch.setattr(time, "monotonic", lambda: running + 601)
        assert sweep.is_due(family, wall + DAYS + 601, SWEEP_SECONDS)


def test_places_and_refusals_of_the_future_do_not_outlast_the_clocks_return(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        registry = worker.registry
        tasks = {"name": "tasks_processed_total", "labels": {"agent": "a", "status": "success"}, "value": 1}
        registry.fold(tasks, now=NOW + DAYS)
        registry.commit(NOW + DAYS)
        registry.shard.rewind(NOW)
        taken = registry.shard.admission._allotment.places.find_taken("tasks_processed_total", "agent")
        assert dict(taken) == {"a": NOW}
        assert (
            registry.shard.find_updated_at(registry.shard.fold.groups["tasks_processed_total"], ("a", "success")) == NOW
        )


def test_a_step_is_what_the_wall_clock_says_and_the_other_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    said = SimpleNamespace(wall=1e9, running=5.0, CLOCK_BOOTTIME=7)
    said.time, said.clock_gettime = lambda: said.wall, lambda _: said.running
    monkeypatch.setattr(wall_clock, "time", said)
    steps = ClockSteps()
    for wall, running, expected in ((1, 1, 0), (3600, 3600, 0), (3601, 1, 3600), (-3600, 0, -3600), (0.5, 0, 0)):
        said.wall, said.running = said.wall + wall, said.running + running
        assert steps.step() == expected
