"""A batch is closed in its time; while the files take no commit the shard says so, and no longer."""

import errno
import gzip
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from busmon.catalogue.catalogue import Catalogue
from busmon.fleet.worker import pace as paces
from busmon.fleet.worker.housekeeping import Upkeep
from busmon.fleet.worker.pace import Pace
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.admission.families import Families
from busmon.registry.storage.journal import Journal
from tests.unit.fleet.later import Later
from tests.unit.fleet.settlements import VOTE, Settled, Worker, body, delivery

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
def told() -> list[str]:
    """The calls of the pace: to suspend consuming, to resume, or that the shard's state changed."""
    return []


@pytest.fixture
def pace(worker: Worker, later: Later, clock: SimpleNamespace, told: list[str]) -> Pace:
    clock.monotonic = lambda: later.now
    pace = Pace(
        worker.lane,
        later,
        FLUSH_SECONDS,
        at_failure=lambda: told.append("suspend"),
        at_recovery=lambda: told.append("resume"),
    )
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


def state(pace: Pace) -> tuple[str, str]:
    return pace.state, pace.cause


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


@pytest.mark.usefixtures("at_once")
def test_what_takes_long_goes_on_when_the_loop_has_had_its_turn(
    worker: Worker, pace: Pace, later: Later, clock: SimpleNamespace
) -> None:
    seconds = iter(range(10_000))
    clock.monotonic = lambda: later.now + next(seconds)
    packed = gzip.compress(body(VOTE))
    pace.deliver([delivery(tag, packed, content_encoding="gzip") for tag in range(1, 4)])
    pace.deliver([delivery(4, packed, content_encoding="gzip")])
    assert worker.broker.calls == []
    later.pass_(1)
    pace.close(Trigger.REMOVAL)
    assert worker.broker.settled == [1, 2, 3, 4]
    assert worker.votes() == 4


def test_of_what_is_gathered_a_batch_that_is_old_enough_folds_a_slice_and_the_rest_goes_on(
    worker: Worker, pace: Pace, later: Later, clock: SimpleNamespace
) -> None:
    packed = gzip.compress(body(VOTE))
    pace.deliver([delivery(tag, packed, content_encoding="gzip") for tag in range(1, 4)])
    seconds = iter(range(10_000))
    clock.monotonic = lambda: later.now + next(seconds)
    later.pass_(FLUSH_SECONDS)
    assert worker.broker.settled == [1]
    later.pass_(FLUSH_SECONDS + 20)  # each look at the clock takes a second
    assert worker.broker.settled == [1, 2, 3]
    assert worker.votes() == 3


def test_a_batch_that_another_was_closed_before_has_its_own_age(worker: Worker, pace: Pace, later: Later) -> None:
    pace.deliver([delivery(1)])
    later.pass_(1)
    pace.close(Trigger.DRAIN)
    pace.deliver([delivery(2)])
    later.pass_(1.75)
    assert worker.broker.settled == [1]
    later.pass_(0.25)
    assert worker.broker.settled == [1, 2]


@pytest.mark.usefixtures("at_once")
def test_a_change_of_state_is_told_once(worker: Worker, later: Later) -> None:
    told: list[tuple[str, str]] = []
    driven: Pace = Pace(worker.lane, later, FLUSH_SECONDS, at_change=lambda: told.append(state(driven)))
    for said in ("connecting", "consuming", "consuming"):
        driven.change(said, "")
    with full_disk():
        driven.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS + 3)
    later.pass_(1)
    assert told == [("consuming", ""), ("failing", FULL), ("consuming", "")]


def test_a_batch_that_is_cancelled_is_settled_at_once(worker: Worker, pace: Pace) -> None:
    pace.deliver([delivery(1)])
    pace.change("cancelled", "the queue is gone")
    assert worker.broker.settled == [1]
    assert state(pace) == ("cancelled", "the queue is gone")


def test_a_shard_is_failing_until_a_commit_succeeds(worker: Worker, pace: Pace, later: Later) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS)
        pace.deliver([delivery(2)])
        later.pass_(5)
        assert state(pace) == ("failing", FULL)
        assert worker.broker.calls == []
    later.pass_(1)
    assert state(pace) == ("consuming", "")
    assert worker.broker.calls == [Settled([1, 2], votes=2)]


def test_a_lost_connection_is_no_recovery(worker: Worker, pace: Pace, later: Later) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS)
        pace.void()
        pace.change("connecting", "unreachable: no broker")
        later.pass_(5)
        assert state(pace) == ("connecting", "unreachable: no broker")
        pace.change("consuming", "")
        assert state(pace) == ("failing", FULL)
    later.pass_(1)
    assert state(pace) == ("consuming", "")
    assert worker.broker.calls == []


def test_a_new_catalogue_on_a_full_disk_is_followed_later(
    worker: Worker, pace: Pace, later: Later, clock: SimpleNamespace, tmp_path: Path
) -> None:
    votes = Catalogue.load().families["votes_cast_total"]
    upkeep = Upkeep(worker.registry.shard, worker.lane, pace)
    with full_disk():
        upkeep.follow([votes])
        upkeep.beat(clock.now - 50, tmp_path)
        assert state(pace) == ("failing", FULL)
    later.pass_(1)
    upkeep.beat(clock.now - 50, tmp_path)
    worker.lane.retry()
    assert state(pace) == ("consuming", "")
    assert 'votes_cast_total{type="downvote"} 0.0' in worker.registry.text()


def test_a_batch_that_a_new_catalogue_closes_says_so(
    worker: Worker, pace: Pace, clock: SimpleNamespace, tmp_path: Path
) -> None:
    upkeep = Upkeep(worker.registry.shard, worker.lane, pace)
    upkeep.beat(clock.now - 50, tmp_path)
    pace.deliver([delivery(1)])
    upkeep.follow([Catalogue.load().families["votes_cast_total"]])
    upkeep.beat(clock.now - 50, tmp_path)
    counts = [worker.shows("busmon_batches_total", trigger=trigger) for trigger in ("reload", "drain")]
    assert counts == [1, 0]


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
            assert state(pace) == ("failing", FULL)
            later.pass_(0.75)
    later.pass_(1)
    upkeep.beat(clock.now + 50, tmp_path)
    assert state(pace) == ("consuming", "")
    assert worker.shows("queue_size") == 0


@contextmanager
def little_room() -> Iterator[None]:
    """An empty commit is taken, and no batch."""
    with pytest.MonkeyPatch.context() as disk:
        disk.setattr(Journal, "has_room", lambda _journal, payload: len(payload) < 150)
        disk.setattr(Journal, "create", full)
        yield


def test_what_the_broker_is_told_follows_the_files(worker: Worker, pace: Pace, later: Later, told: list[str]) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS + 5)
        assert told == ["suspend"]
    later.pass_(1)
    assert told == ["suspend", "resume"]
    assert worker.broker.settled == [1]


def test_a_batch_that_is_void_must_find_room_before_it_is_consumed_again(
    worker: Worker, pace: Pace, later: Later, told: list[str]
) -> None:
    with little_room():
        pace.deliver([delivery(1), delivery(2)])
        later.pass_(FLUSH_SECONDS)
        pace.void()
        pace.change("suspended", "consumer_timeout: too late")
        later.pass_(5)
        worker.registry.shard.commit(0.0)
        assert state(pace) == ("failing", FULL)
        pace.void()
        later.pass_(5)
        assert (state(pace), told) == (("failing", FULL), ["suspend"])
    later.pass_(1)
    assert told == ["suspend", "resume"]
    assert (worker.votes(), worker.broker.calls) == (0, [])
    pace.change("consuming", "")
    pace.deliver([delivery(3, redelivered=True, message_id="s:1"), delivery(4, redelivered=True, message_id="s:2")])
    later.pass_(FLUSH_SECONDS)
    assert (worker.votes(), worker.broker.settled) == (2, [3, 4])
    assert worker.shows("busmon_envelopes_deduplicated_total") == 0


def test_a_batch_that_is_void_and_cannot_be_counted_holds_nobody_up(worker: Worker, pace: Pace, later: Later) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS)
        pace.void()
    with pytest.MonkeyPatch.context() as fault:
        fault.setattr(type(worker.registry.shard), "rehearse", fault_of_the_body)
        later.pass_(1)
    assert state(pace) == ("consuming", "")


def fault_of_the_body(*_: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("close", "trigger"),
    [
        (lambda pace: pace.change("cancelled", "the queue is gone"), "cancel"),
        (lambda pace: pace.close(Trigger.DROPS), "drops"),
    ],
)
def test_a_batch_says_what_closed_it(worker: Worker, pace: Pace, close: Any, trigger: str) -> None:
    pace.deliver([delivery(1)])
    close(pace)
    assert worker.shows("busmon_batches_total") == worker.shows("busmon_batches_total", trigger=trigger) == 1


def test_a_batch_that_is_committed_after_a_failure_says_so(worker: Worker, pace: Pace, later: Later) -> None:
    with full_disk():
        pace.deliver([delivery(1)])
        later.pass_(FLUSH_SECONDS)
    later.pass_(1)
    assert worker.shows("busmon_batches_total") == worker.shows("busmon_batches_total", trigger="retry") == 1
