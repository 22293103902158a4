"""Deliveries are folded together, and no batch is closed without what is gathered for it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from busmon.bus.frames.delivery import sizes_of
from busmon.fleet.worker import lane as lanes
from busmon.fleet.worker.trigger import Trigger
from tests.unit.fleet.settlements import NOW, VOTE, Settled, Worker, body, delivery

QUEUE_SIZE = {"name": "queue_size", "labels": {"queue": "tasks"}}


def test_what_arrives_bit_by_bit_is_folded_in_one_run(tmp_path: Path) -> None:
    runs: list[None] = []
    with Worker(tmp_path, progress=lambda: runs.append(None)) as worker:
        for tag in range(1, 51):
            worker.lane.deliver([delivery(tag)])
        assert not runs
        worker.lane.close(Trigger.INTERVAL)
        assert len(runs) == 1
        assert worker.broker.calls == [Settled([*range(1, 51)], votes=50)]


def test_what_fills_a_batch_is_committed_when_it_arrives(tmp_path: Path) -> None:
    with Worker(tmp_path, batch_size=3) as worker:
        for tag in range(1, 8):
            worker.lane.deliver([delivery(tag)])
        assert worker.broker.calls == [Settled([1, 2, 3], votes=3), Settled([4, 5, 6], votes=6)]


def test_so_many_bytes_are_folded_when_they_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[None] = []
    monkeypatch.setattr(lanes, "MAX_RUN_BYTES", 4 * sum(sizes_of([delivery(1)])))
    with Worker(tmp_path, progress=lambda: runs.append(None)) as worker:
        for tag in range(1, 8):
            worker.lane.deliver([delivery(tag)])
        assert len(runs) == 1
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.settled == [*range(1, 8)]


def test_what_is_gathered_is_void_with_its_channel(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1)])
        worker.lane.void()
        assert worker.lane.opened_at is None
        worker.lane.deliver([delivery(1, redelivered=True)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([1], votes=1)]


def test_a_batch_is_as_old_as_the_first_delivery_that_is_gathered(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Worker(tmp_path, batch_size=3) as worker:
        ages = []
        for tag in range(1, 5):
            clock.monotonic = lambda tag=tag: float(tag)
            worker.lane.deliver([delivery(tag)])
            ages.append(worker.lane.opened_at)
        assert ages == [1.0, 1.0, None, 4.0]


def test_the_time_in_which_deliveries_are_gathered_is_no_latency(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag in (1, 2):
            clock.now = NOW + tag
            worker.lane.deliver([delivery(tag, body(VOTE, ts=NOW))])
        clock.now = NOW + 60
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("message_latency_seconds_sum") == 3
        assert worker.shows("busmon_last_envelope_timestamp_seconds", agent="planner") == NOW + 2


def test_what_was_received_before_the_clock_was_set_back_is_not_of_the_future(
    clock: SimpleNamespace, tmp_path: Path
) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(VOTE, ts=NOW - 2))])
        clock.now = NOW - 3600
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("message_latency_seconds_sum") == 2
        assert worker.shows("busmon_clock_skew_total") == 0
        assert worker.shows("busmon_last_envelope_timestamp_seconds", agent="planner") == NOW - 3600


def test_a_batch_is_as_old_as_its_first_delivery_though_others_have_it_folded(
    clock: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "MAX_RUN_BYTES", 2 * sum(sizes_of([delivery(1)])))
    with Worker(tmp_path) as worker:
        for tag in (1, 2, 3):
            clock.monotonic = lambda tag=tag: float(tag)
            worker.lane.deliver([delivery(tag)])
            assert worker.lane.opened_at == 1.0


@pytest.mark.parametrize("ts", [None, NOW + 0.2])
def test_a_gauge_has_the_time_of_its_receipt(clock: SimpleNamespace, tmp_path: Path, ts: float | None) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(QUEUE_SIZE | {"value": 2}))])
        clock.now = NOW + 0.2
        worker.lane.deliver([delivery(2, body(QUEUE_SIZE | {"value": 1}, ts=ts))])
        clock.now = NOW + 0.25
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("queue_size") == 1


@pytest.mark.parametrize("step_seconds", [0.0, -0.5, -3600.0])
def test_of_gauges_that_are_received_together_the_last_counts(
    clock: SimpleNamespace, tmp_path: Path, step_seconds: float
) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(QUEUE_SIZE | {"value": 9}))])
        worker.lane.close(Trigger.INTERVAL)
        clock.now = NOW + step_seconds
        worker.lane.deliver([delivery(tag, body(QUEUE_SIZE | {"value": 8 - tag})) for tag in (2, 3)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("queue_size") == 5


def test_a_source_that_is_gathered_is_not_silent(clock: SimpleNamespace, tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(QUEUE_SIZE | {"value": 7}))])
        worker.lane.close(Trigger.INTERVAL)
        clock.now = NOW + 60
        worker.lane.deliver([delivery(2)])
        worker.expire(NOW + 30)
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("queue_size") == 7
