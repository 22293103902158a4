"""Deliveries that the quarantine drops are counted once and then acknowledged; an obstacle is reported."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import pytest

from busmon.fleet.worker.drops import DropCount
from busmon.fleet.worker.pace import Pace
from busmon.registry.storage.journal import Journal
from tests.unit.fleet.later import Later
from tests.unit.fleet.settlements import Worker, delivery

from .test_pace import FULL, full_disk

DROPPED = "telemetry.quarantine.dropped"


class Acks:
    """Records what is settled."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[int]]] = []

    def settle(self, queue: str, tags: Sequence[int]) -> None:
        self.calls.append((queue, [*tags]))

    def quarantine(self, *_: object) -> None:
        raise AssertionError("a drop goes nowhere")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path) as worker:
        yield worker


@pytest.fixture
def later() -> Later:
    return Later()


@pytest.fixture
def pace(worker: Worker, later: Later) -> Pace:
    return Pace(worker.lane, later, 2.0)


@pytest.fixture
def acks() -> Acks:
    return Acks()


@pytest.fixture
def drops(worker: Worker, pace: Pace, later: Later, acks: Acks) -> DropCount:
    return DropCount(worker.registry.shard, pace, acks, DROPPED, later)


def counted(worker: Worker) -> float:
    return worker.shows("busmon_quarantine_dropped_total")


def test_drops_that_arrive_together_are_one_commit_and_one_ack(worker: Worker, drops: DropCount, acks: Acks) -> None:
    with patch.object(Journal, "commit", autospec=True, side_effect=Journal.commit) as commit:
        drops.deliver([delivery(tag) for tag in range(1, 201)])
    assert commit.call_count == 1
    assert acks.calls == [(DROPPED, [*range(1, 201)])]
    assert counted(worker) == 200


def test_drops_are_no_part_of_a_batch_that_may_yet_be_void(
    worker: Worker, pace: Pace, drops: DropCount, acks: Acks
) -> None:
    pace.deliver([delivery(1)])
    drops.deliver([delivery(1)])
    pace.void()
    assert worker.broker.settled == [1]
    assert acks.calls == [(DROPPED, [1])]
    assert (worker.votes(), counted(worker)) == (1, 1)


def test_drops_on_a_full_disk_are_said_and_counted_later(
    worker: Worker, pace: Pace, later: Later, drops: DropCount, acks: Acks
) -> None:
    pace.change("consuming", "")
    with full_disk():
        pace.deliver([delivery(1)])
        drops.deliver([delivery(1), delivery(2)])
        drops.deliver([delivery(3)])
        later.pass_(5)
        assert drops.obstacle == f"what the quarantine drops isn't counted: {FULL}"
        assert pace.state == "failing"
        assert acks.calls == []
    later.pass_(2)
    assert drops.obstacle == ""
    assert acks.calls == [(DROPPED, [1, 2, 3])]
    assert (worker.votes(), counted(worker)) == (1, 3)


def test_drops_whose_channel_is_lost_are_counted_when_they_come_again(
    worker: Worker, later: Later, drops: DropCount, acks: Acks
) -> None:
    with full_disk():
        drops.deliver([delivery(1)])
        drops.void()
        drops.change("connecting", "connection_lost")
        assert drops.obstacle == "what the quarantine drops isn't counted: connection_lost"
    drops.change("consuming", "")
    later.pass_(2)
    drops.deliver([delivery(2)])
    assert acks.calls == [(DROPPED, [2])]
    assert counted(worker) == 1
