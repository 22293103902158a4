"""A batch is closed in its time; while the files take no commit the shard says so, and no longer."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.fleet import pace as paces
from busmon.fleet.pace import Pace
from busmon.fleet.trigger import Trigger
from busmon.fleet.upkeep import Upkeep
from busmon.registry.admission.families import Families
from busmon.registry.shard.journal import Journal

from .later import Later
from .settlements import Settled, Worker, delivery

FLUSH_SECONDS = 2.0
FULL = "[Errno 28] No space left on device"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path) as worker:
        yield worker


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    later = Later()
    clock = SimpleNamespace(monotonic=lambda: later.now)
    monkeypatch.setattr(paces, "time", clock)
    return later


@pytest.fixture
def pace(worker: Worker, later: Later, clock: SimpleNamespace) -> Pace:
    clock.monotonic = lambda: later.now
    pace = Pace(worker.lane, later, FLUSH_SECONDS)
    pace.change("consuming", "")
    return pace


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextmanager
def full_disk() -> Iterator[None]:
    """No commit is taken, nor a family that wasn't written before."""
    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Journal, "commit", full)
        disk.setattr(Families, "_append", full)
        yield


def state(worker: Worker) -> tuple[str, str]:
    return worker.lane.status.state, worker.lane.status.cause


def test_a_batch_is_closed_when_it_is_old_enough(worker: Worker, pace: Pace, later: Later) -> None:
    pace.deliver([delivery(1)])
    later.pass_(1)
    pace.deliver([delivery(2)])
    later.pass_(0.75)
    assert worker.broker.calls == []
    later.pass_(0.25)
    assert worker.broker.calls == [Settled([1, 2], votes=2)]
    pace.deliver([delivery(3)])
    later.pass_(FLUSH_SECONDS)
    assert worker.broker.settled == [1, 2, 3]


def test_a_batch_that_another_was_closed_before_has_its_own_age(worker: Worker, pace: Pace, later: Later) -> None:
    pace.deliver([delivery(1)])
    later.pass_(1)
    pace.close(Trigger.DRAIN)
    pace.deliver([delivery(2)])
    later.pass_(1.75)
    assert worker.broker.settled == [1]
    later.pass_(0.25)
    assert worker.broker.settled == [1, 2]


def test_a_batch_that_is_cancelled_is_settled_at_once(worker: Worker, pace: Pace) -> None:
    pace.deliver([delivery(1)])
    pace.change("cancelled", "the queue is gone")
    assert worker.broker.settled == [1]
    assert state(worker) == ("cancelled", "the queue is gone")


def test_a_shard_is_failing_until_a_commit_succeeds(worker: Worker, pace: Pace, later: Later) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS)
        pace.deliver([delivery(2)])
        later.pass_(5)
        assert state(worker) == ("failing", FULL)
        assert worker.broker.calls == []
    later.pass_(1)
    assert state(worker) == ("consuming", "")
    assert worker.broker.calls == [Settled([1, 2], votes=2)]


def test_a_lost_connection_is_no_recovery(worker: Worker, pace: Pace, later: Later) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS)
        pace.void()
        pace.change("connecting", "unreachable: no broker")
        later.pass_(5)
        assert state(worker) == ("connecting", "unreachable: no broker")
        pace.change("consuming", "")
        assert state(worker) == ("failing", FULL)
    later.pass_(1)
    assert state(worker) == ("consuming", "")
    assert worker.broker.calls == []


def test_a_new_catalogue_on_a_full_disk_is_followed_later(
    worker: Worker, pace: Pace, later: Later, clock: SimpleNamespace, tmp_path: Path
) -> None:
    votes = Catalogue.load().families["votes_cast_total"]
    upkeep = Upkeep(worker.registry.shard, worker.lane, pace)
    with full_disk():
        upkeep.follow([votes])
        upkeep.beat(clock.now - 50, tmp_path)
        assert state(worker) == ("failing", FULL)
    later.pass_(1)
    upkeep.beat(clock.now - 50, tmp_path)
    worker.lane.retry()
    assert state(worker) == ("consuming", "")
    assert 'votes_cast_total{type="downvote"} 0.0' in worker.registry.text()


def test_a_shard_without_traffic_goes_on_failing(
    worker: Worker, pace: Pace, later: Later, clock: SimpleNamespace, tmp_path: Path
) -> None:
    gauge = b'{"v": 1, "source": "s", "samples": [{"name": "queue_size", "labels": {"queue": "a"}, "value": 5}]}'
    upkeep = Upkeep(worker.registry.shard, worker.lane, pace)
    pace.deliver([delivery(1, gauge)])
    pace.close(Trigger.DRAIN)
    with full_disk():
        for _ in range(4):
            upkeep.beat(clock.now + 50, tmp_path)
            assert state(worker) == ("failing", FULL)
            later.pass_(0.75)
    later.pass_(1)
    upkeep.beat(clock.now + 50, tmp_path)
    assert state(worker) == ("consuming", "")
    assert worker.shows("queue_size") == 0
