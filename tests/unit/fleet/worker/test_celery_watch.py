"""A worker of Celery is lost only where the shard would have heard it, and each queue is asked for once."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from busmon.bus.consume.depths import Depth
from busmon.fleet.worker import celery_watch
from busmon.fleet.worker.celery_watch import ASK_SECONDS, LATE_SECONDS, CeleryWatch
from busmon.status import ConsumerState
from tests.unit.registry.celery.test_celery import Taken, event, life
from tests.unit.registry.registries import NOW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

UP = "celery_worker_up"


class Watched:
    """A watch over a real shard, with a clock and a broker in the test's hands."""

    def __init__(self, directory: Path, clock: SimpleNamespace) -> None:
        self.taken = Taken(directory)
        self.clock = clock
        self.asked: list[tuple[str, Callable[[Depth], None]]] = []
        self.pace = SimpleNamespace(state=ConsumerState.CONSUMING, run=lambda commit: commit())
        self.watch = CeleryWatch(
            self.taken.registry.shard,
            cast("Any", SimpleNamespace(opened_at=None)),
            cast("Any", self.pace),
            look_up=lambda queue, answer: self.asked.append((queue, answer)),
            silent_seconds=30,
            most_waiting=1000,
        )

    def beat(self, seconds: float, depth: int | None = 0, *, stands_by: bool = False) -> float | None:
        """Let so much time pass; the gauge of the worker afterwards."""
        self.clock.now += seconds
        self.watch.beat(NOW + self.clock.now, depth, stands_by=stands_by)
        return self.taken.value(UP, hostname="worker-1")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(
        celery_watch, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: NOW + clock.now)
    )
    watched = Watched(tmp_path, clock)
    watched.taken.take(event("worker-heartbeat"), *life("a"), now=NOW)
    yield watched
    watched.taken.registry.shard.close()


def test_a_silent_worker_is_lost(watched: Watched) -> None:
    assert [watched.beat(1), watched.beat(29), watched.beat(2)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("state", "depth"),
    [
        (ConsumerState.CONNECTING, 0),
        (ConsumerState.FAILING, 0),
        (ConsumerState.SUSPENDED, 0),
        (ConsumerState.CONSUMING, None),
        (ConsumerState.CONSUMING, 1000),
    ],
)
def test_a_shard_that_may_not_have_heard_all_calls_nobody_lost(
    watched: Watched, state: ConsumerState, depth: int | None
) -> None:
    watched.beat(1)
    watched.pace.state = state
    assert watched.beat(100, depth) == 1
    watched.pace.state = ConsumerState.CONSUMING
    assert [watched.beat(1), watched.beat(29), watched.beat(2)] == [1, 1, 0]


def test_a_standby_shows_no_worker(watched: Watched) -> None:
    assert watched.beat(1, stands_by=True) is None


def test_queues_are_asked_for_one_at_a_time_and_again_later(watched: Watched) -> None:
    watched.taken.take(
        event("task-sent", "b", name="mail", queue="mails"), event("task-sent", "c", name="long", queue="ü" * 199)
    )
    watched.beat(1)
    ((queue, answer),) = watched.asked
    assert queue == "mails"
    answer(Depth(3, 2))
    (_, (queue, other)) = watched.asked
    assert queue == "payments"
    other(Depth(is_missing=True))
    watched.beat(1)
    assert watched.taken.value("celery_queue_length", queue_name="mails") == 3
    assert watched.taken.value("celery_active_consumer_count", queue_name="mails") == 2
    assert watched.taken.value("celery_queue_length", queue_name="payments") is None
    assert len(watched.asked) == 2
    watched.beat(ASK_SECONDS)
    assert len(watched.asked) == 3


def test_an_answer_that_never_comes_ends_the_questions_for_a_while_only(watched: Watched) -> None:
    watched.beat(1)
    watched.beat(ASK_SECONDS)
    assert len(watched.asked) == 1
    watched.beat(LATE_SECONDS)
    assert len(watched.asked) == 2
    for _, answer in watched.asked:
        answer(Depth(1, 1))
    watched.beat(ASK_SECONDS)
    assert len(watched.asked) == 3
