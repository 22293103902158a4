"""Celery's events in a shard: each counts once, by the name that only the first events of a task say."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from busmon.registry.celery import tasks as celery_tasks
from busmon.registry.celery import workers as celery_workers
from busmon.registry.celery.tasks import CeleryTasks
from busmon.registry.celery.workers import LOST_SHOWN_SECONDS, STOPPED_SHOWN_SECONDS, CeleryWorkers
from busmon.wire.arrival import Arrival
from busmon.wire.celery import decode
from busmon.wire.celery_event import TaskEvent
from tests.unit.registry.registries import NOW, Registry, parsed, series

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_clock = count(1)
WORKER, CLIENT = "celery@worker-1", "gen7@web"


def event(type_: str, uuid: str = "", at: float = 0.0, **fields: Any) -> dict[str, Any]:
    """An event as Celery publishes it; `at` is seconds after `NOW`."""
    node = CLIENT if type_ == "task-sent" else WORKER
    named = {"name": "shop.pay"} if type_ in {"task-sent", "task-received"} else {}
    queued = {"queue": "payments", "routing_key": "pay"} if type_ == "task-sent" else {}
    said = {"type": type_, "hostname": node, "pid": 7, "clock": next(_clock), "timestamp": NOW + at}
    return said | ({"uuid": uuid} if uuid else {}) | named | queued | fields


def life(uuid: str, *rest: dict[str, Any]) -> list[dict[str, Any]]:
    """A task's first three events, a second apart, and the rest."""
    return [event("task-sent", uuid), event("task-received", uuid, 1), event("task-started", uuid, 3), *rest]


class Taken:
    """A registry that takes events."""

    def __init__(self, directory: Path) -> None:
        self.registry = Registry(directory)

    def take(self, *events: dict[str, Any], now: float = NOW + 10, commit: bool = True) -> None:
        """Fold a body of events, and commit."""
        envelope = decode(Arrival(orjson.dumps([*events]), None, None, 1 << 20, is_celerys=True))
        self.registry.shard.fold.envelope(envelope, now)
        if commit:
            self.registry.commit(now)

    def beat(self, now: float, silent_since: float | None) -> bool:
        """Let time pass, and commit."""
        is_changed = self.registry.shard.beat_celery(now, silent_since)
        self.registry.commit(now)
        return is_changed

    def value(self, metric: str, /, **labels: str) -> float | None:
        """One sample of a scrape; None where it isn't there."""
        return parsed(self.registry.text("celery")).get(series(metric, **labels))

    def task(self, kind: str, host: str = "worker-1", **labels: str) -> float | None:
        """One task counter of the usual task."""
        usual = {"name": "shop.pay", "hostname": host, "queue_name": "payments"}
        return self.value(f"celery_task_{kind}_total", **(usual | labels))

    def reopen(self) -> None:
        """Open the shard again, as its next owner does."""
        self.registry.shard.close()
        self.registry = Registry(self.registry.directory)


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Taken]:
    taken = Taken(tmp_path)
    yield taken
    taken.registry.shard.close()


def test_each_event_of_a_task_counts_with_the_name_and_queue_that_the_first_ones_say(taken: Taken) -> None:
    taken.take(*life("a", event("task-succeeded", "a", 5, runtime=1.5, result="secret")))
    assert taken.task("sent", "web") == 1
    assert [taken.task(kind) for kind in ("received", "started", "succeeded", "rejected", "revoked", "retried")] == [
        *(1, 1, 1, 0, 0, 0)
    ]
    assert taken.task("failed", exception="") == 0
    usual = {"name": "shop.pay", "queue_name": "payments"}
    assert taken.value("celery_task_runtime_sum", hostname="worker-1", **usual) == 1.5
    assert taken.value("celery_task_sent_to_received_seconds_sum", **usual) == 1
    assert taken.value("celery_task_received_to_started_seconds_sum", **usual) == 2
    assert taken.value("celery_task_queue_wait_time_sum", hostname="worker-1", **usual) == 3
    assert "secret" not in taken.registry.text("")


def test_what_the_first_events_say_survives_a_restart_and_batches(taken: Taken) -> None:
    first, second, third = life("a")
    taken.take(first)
    taken.reopen()
    taken.take(second)
    taken.reopen()
    taken.take(third)
    taken.take(event("task-failed", "a", 4, exception="KeyError('x')", traceback="…"))
    assert [taken.task("sent", "web"), taken.task("started"), taken.task("failed", exception="KeyError")] == [1, 1, 1]


def test_an_event_counts_once_in_whatever_bodies_it_comes_and_after_a_restart(taken: Taken) -> None:
    events = life("a", event("task-retried", "a"), event("task-revoked", "a"), event("task-rejected", "a"))
    taken.take(*events[:4], *events[:2])
    taken.reopen()
    taken.take(*events)
    taken.take(events[2])
    kinds = ("received", "started", "retried", "revoked", "rejected")
    assert [taken.task("sent", "web"), *map(taken.task, kinds)] == [1] * 6


def test_a_batch_that_is_rolled_back_never_happened(taken: Taken) -> None:
    events = life("a")
    taken.take(*events, event("worker-heartbeat", active=2), commit=False)
    taken.registry.shard.rollback()
    taken.registry.commit()
    assert taken.registry.text("celery") == ""
    taken.take(*events)
    assert [taken.task("started"), taken.task("retried")] == [1, 0]


def test_a_retry_is_another_attempt_of_the_task(taken: Taken) -> None:
    taken.take(*life("a"), event("task-sent", "a", 4, hostname="gen9@worker-1"), event("task-retried", "a", 5))
    taken.take(event("task-received", "a", 7), event("task-started", "a", 7.5), event("task-succeeded", "a", 8))
    assert [taken.task("sent", "web"), taken.task("sent"), taken.task("received"), taken.task("retried")] == [
        1,
        1,
        2,
        1,
    ]
    usual = {"name": "shop.pay", "queue_name": "payments"}
    assert taken.value("celery_task_sent_to_received_seconds_sum", **usual) == 1 + 3
    assert taken.value("celery_task_received_to_started_seconds_count", **usual) == 2
    assert taken.value("celery_task_queue_wait_time_count", hostname="worker-1", **usual) == 2
    assert taken.value("celery_task_queue_wait_time_sum", hostname="worker-1", **usual) == 3 + 3.5


def test_a_client_may_report_after_the_worker(taken: Taken) -> None:
    taken.take(*life("first"))
    sent, *rest = life("a", event("task-succeeded", "a", 5))
    taken.take(*rest)
    taken.take(sent)
    assert [taken.task("sent", "web"), taken.task("received"), taken.task("succeeded")] == [2, 2, 1]
    assert taken.value("celery_task_sent_to_received_seconds_sum", name="shop.pay", queue_name="payments") == 2


def test_a_task_without_its_first_events_counts_by_a_stated_name(taken: Taken) -> None:
    taken.take(event("task-started", "a"), event("task-received", "b", name="other"))
    assert taken.task("started", name="unknown", queue_name="celery") == 1
    assert taken.task("received", name="other", queue_name="celery") == 1


def test_a_wait_for_the_time_that_was_asked_for_is_none(taken: Taken) -> None:
    taken.take(event("task-sent", "a"), event("task-received", "a", 1, eta="2025-11-22T07:00:30+00:00"))
    taken.take(event("task-started", "a", 31))
    usual = {"name": "shop.pay", "queue_name": "payments"}
    assert taken.value("celery_task_received_to_started_seconds_sum", **usual) == 1
    assert taken.value("celery_task_queue_wait_time_sum", hostname="worker-1", **usual) == 1


def test_a_task_that_starts_again_waited_in_the_queue_once(taken: Taken) -> None:
    taken.take(*life("a"), event("task-received", "a", 50), event("task-started", "a", 51))
    usual = {"name": "shop.pay", "queue_name": "payments"}
    assert taken.value("celery_task_queue_wait_time_sum", hostname="worker-1", **usual) == 3
    assert taken.value("celery_task_queue_wait_time_count", hostname="worker-1", **usual) == 1
    assert taken.value("celery_task_received_to_started_seconds_sum", **usual) == 2 + 1


def test_a_worker_that_falls_silent_is_down_and_leaves_later(taken: Taken) -> None:
    taken.take(event("worker-online", active=0), now=NOW)
    taken.take(event("worker-heartbeat", active=3), now=NOW + 2)
    assert [
        taken.value("celery_worker_up", hostname="worker-1"),
        taken.value("celery_worker_tasks_active", hostname="worker-1"),
    ] == [1, 3]
    assert not taken.beat(NOW + 60, None)
    assert not taken.beat(NOW + 60, NOW + 1)
    assert taken.beat(NOW + 62, NOW + 3)
    taken.reopen()
    assert [
        taken.value("celery_worker_up", hostname="worker-1"),
        taken.value("celery_worker_tasks_active", hostname="worker-1"),
    ] == [0, 0]
    assert not taken.beat(NOW + 62 + LOST_SHOWN_SECONDS, NOW)
    assert taken.beat(NOW + 63 + LOST_SHOWN_SECONDS, NOW)
    assert taken.registry.text("celery_worker") == ""
    taken.take(event("worker-heartbeat"), now=NOW + 9999)
    assert taken.value("celery_worker_up", hostname="worker-1") == 1


def test_a_worker_that_stops_in_order_leaves_soon(taken: Taken) -> None:
    taken.take(event("worker-heartbeat", active=3), event("worker-offline", active=3), now=NOW)
    assert [
        taken.value("celery_worker_up", hostname="worker-1"),
        taken.value("celery_worker_tasks_active", hostname="worker-1"),
    ] == [0, 0]
    assert taken.beat(NOW + 1 + STOPPED_SHOWN_SECONDS, NOW)
    assert taken.registry.text("celery_worker") == ""


def test_a_hosts_gauges_are_those_of_all_its_workers(taken: Taken) -> None:
    one, two = "w1@worker-1", "w2@worker-1"
    taken.take(event("worker-heartbeat", hostname=one, active=2), event("worker-heartbeat", hostname=two, active=3))
    assert taken.value("celery_worker_tasks_active", hostname="worker-1") == 5
    taken.take(event("worker-offline", hostname=one))
    assert [
        taken.value("celery_worker_up", hostname="worker-1"),
        taken.value("celery_worker_tasks_active", hostname="worker-1"),
    ] == [1, 3]


def test_workers_count_by_the_queues_that_they_receive_tasks_from(taken: Taken) -> None:
    taken.take(event("worker-heartbeat"), event("worker-heartbeat", hostname="celery@worker-2"), *life("a"))
    taken.take(event("task-sent", "b"), event("task-received", "b", hostname="celery@worker-2"))
    assert taken.beat(NOW + 11, None)
    assert not taken.beat(NOW + 12, None)
    assert taken.value("celery_active_worker_count", queue_name="payments") == 2
    taken.take(event("worker-offline"))
    assert taken.beat(NOW + 13, None)
    assert taken.value("celery_active_worker_count", queue_name="payments") == 1


@pytest.mark.parametrize("is_restarted", [False, True])
def test_a_standby_says_nothing_of_workers(taken: Taken, *, is_restarted: bool) -> None:
    taken.take(event("worker-heartbeat", active=1), *life("a"))
    taken.beat(NOW + 11, None)
    assert taken.value("celery_active_worker_count", queue_name="payments") == 1
    if is_restarted:
        taken.reopen()
    assert taken.registry.shard.abandon_celery(NOW + 12)
    taken.registry.commit()
    assert taken.registry.text("celery_worker", "celery_active") == ""
    assert taken.task("started") == 1


def test_what_is_remembered_is_bounded_and_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("MAX_TASKS", 3), ("MAX_ENDED", 2), ("RING_SIZE", 4), ("MAX_NAMES", 2)):
        monkeypatch.setattr(celery_tasks, name, most)
    tasks = CeleryTasks()
    for number in range(9):
        assert tasks.is_new(number)
        kind = "succeeded" if number % 2 else "sent"
        tasks.take(TaskEvent(number, kind, "h", NOW, number, name=f"n{number}", queue=f"q{number}"), NOW)
        tasks.commit()
    dumped = tasks.dump(whole=True)
    assert [task for task, *_ in dumped["tasks"]] == [5, 7, 4, 6, 8]
    assert dumped["seen"] == [5, 6, 7, 8]
    assert tasks.queues == ["q6", "q8"]
    assert not tasks.is_new(8)
    assert tasks.is_new(0)


def test_workers_of_one_host_and_in_all_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(celery_workers, "MAX_OF_HOST", 3)
    monkeypatch.setattr(celery_workers, "MAX_WORKERS", 20)
    workers = CeleryWorkers()
    for number in range(10):
        workers.hear(f"w{number}@h", NOW + number, 1)
        workers.commit()
    assert {*workers.dump(whole=True)} == {"w7@h", "w8@h", "w9@h"}
    for number in range(40):
        workers.hear(f"w@h{number}", NOW + 100 + number, 1)
        workers.commit()
    assert len(workers.dump(whole=True)) <= 20
    assert workers.host("w@h39") is not None
    assert workers.host("w@h0") is None


def test_a_worker_that_gives_way_to_a_new_one_leaves_the_scrape_and_comes_back_when_it_is_heard(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_workers, "MAX_WORKERS", 10)
    for number in range(10):
        taken.take(event("worker-heartbeat", hostname=f"celery@h{number}"), now=NOW + number)
    taken.take(event("worker-offline", hostname="celery@h7"), now=NOW + 11)
    taken.take(event("worker-heartbeat", hostname="celery@new"), now=NOW + 12)
    up = [taken.value("celery_worker_up", hostname=f"h{number}") for number in range(10)]
    assert up == [1, 1, 1, 1, 1, 1, 1, None, 1, 1]
    newer = event("worker-heartbeat", hostname="celery@newer")
    taken.take(newer, event("worker-heartbeat", hostname="celery@h0"), now=NOW + 13)
    taken.reopen()
    up = [taken.value("celery_worker_up", hostname=f"h{number}") for number in range(3)]
    assert up == [1, None, 1]
    active = [taken.value("celery_worker_tasks_active", hostname=f"h{number}") for number in range(3)]
    assert active == [0, None, 0]


def test_a_worker_that_gave_way_in_a_batch_that_is_rolled_back_stays(
    taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(celery_workers, "MAX_WORKERS", 10)
    for number in range(10):
        taken.take(event("worker-heartbeat", hostname=f"celery@h{number}"), now=NOW + number)
    taken.take(event("worker-heartbeat", hostname="celery@new"), now=NOW + 12, commit=False)
    taken.registry.shard.rollback()
    taken.take(event("worker-heartbeat", hostname="celery@h9"), now=NOW + 13)
    assert taken.value("celery_worker_up", hostname="h0") == 1
    assert taken.value("celery_worker_up", hostname="new") is None


def test_silent_tasks_are_forgotten_but_for_those_that_are_due_later(taken: Taken) -> None:
    taken.take(*life("old"), *life("late"), event("task-received", "late", eta="2025-11-25T07:00:00+00:00"))
    fold = taken.registry.shard.fold
    fold.celery.forget(NOW + 86_400)
    assert len(fold.celery.dump(whole=True)["tasks"]) == 1


def test_times_follow_a_clock_that_was_set(taken: Taken) -> None:
    taken.take(*life("a"), event("worker-heartbeat"), now=NOW + 5000)
    taken.registry.shard.follow_step(-5000, NOW)
    assert taken.registry.shard.fold.celery.dump(whole=True)["workers"][WORKER].heard_at == NOW
    assert not taken.beat(NOW + 10, NOW - 1)
    taken.registry.shard.follow_step(1000, NOW + 1010)
    assert not taken.beat(NOW + 1011, NOW + 999)
