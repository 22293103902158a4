"""Celery's events of one shard, turned into points of the families that celery-exporter's users know.

An event counts once, whatever body it comes in. What the events say of tasks and workers is part of the commit that
counts them, so a kill at any instruction neither loses an event nor counts it twice. Pure: the shard persists it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from busmon.bounded import BoundedCache
from busmon.registry.celery.tasks import CeleryTasks, Task
from busmon.registry.celery.workers import CeleryWorkers
from busmon.wire.celery import AGENT, SOURCE
from busmon.wire.celery_event import CeleryEvent, TaskEvent, WorkerEvent, host_of
from busmon.wire.envelope import SET, Part, Point

COUNTED = ("sent", "received", "started", "succeeded", "failed", "rejected", "revoked", "retried")
WORKER_GAUGES = ("celery_worker_up", "celery_worker_tasks_active")
WORKERS_OF_QUEUE = "celery_active_worker_count"

CELERY = Part(SOURCE, AGENT, {}, ())
"""Of what busmon itself finds out."""

_LIFE = {"online": "agent_starts_total", "offline": "agent_stops_total"}
_MAX_EXPOSED = 10_000
_BELIEVED_SECONDS = 30 * 86_400.0
"""A longest wait that is believed; a clock that is wrong by years would outweigh all other waits."""

Gone = tuple[str, Mapping[str, str]]
"""A gauge's series that is to leave: its name and labels."""


class Celery:
    """One shard's state of Celery.

    Attributes:
        tasks: by uuid.
        workers: by name.
    """

    def __init__(self) -> None:
        self.tasks = CeleryTasks()
        self.workers = CeleryWorkers()
        self._exposed: BoundedCache[tuple[str, str, str], None] = BoundedCache(_MAX_EXPOSED)
        self._counts: dict[str, int] = {}
        self._open_counts: dict[str, int] | None = None
        self._evicted: list[str] = []

    def take(self, event: CeleryEvent, now: float) -> Iterator[Point]:
        """Take an event into the open batch, and yield its points; an event that was counted has none."""
        if self.tasks.is_new(event.identity):
            if isinstance(event, TaskEvent):
                yield from self._of_task(event, now)
            else:
                yield from self._of_worker(event, now)

    def _of_task(self, event: TaskEvent, now: float) -> Iterator[Point]:
        before, task = self.tasks.take(event, now)
        kind, host = event.kind, host_of(event.node)
        name, queue = self.tasks.name_of(task), self.tasks.queue_of(task)
        labels = {"name": name, "hostname": host, "queue_name": queue}
        if kind in COUNTED:
            yield _count(kind, labels, 1, event.exception)
        if kind == "received":
            self.workers.note_queue(event.node, queue)
        if kind != "sent" and (name, host, queue) not in self._exposed.entries:
            self._exposed.keep((name, host, queue), None)
            yield from (_count(other, labels, 0) for other in COUNTED if other not in {kind, "sent"})
        if kind == "succeeded" and event.runtime is not None:
            yield _observe("celery_task_runtime", labels, event.runtime)
        yield from _waits(event, before, labels)

    def _of_worker(self, event: WorkerEvent, now: float) -> Iterator[Point]:
        self._evicted += self.workers.hear(event.node, now, event.active, is_leaving=event.kind == "offline")
        if event.kind in _LIFE:
            yield Point(_LIFE[event.kind], _LIFE[event.kind], "counter", 1)  # of the agent `celery`
        yield from self._of_host(event.node, now)

    def _of_host(self, node: str, now: float) -> Iterator[Point]:
        if host := self.workers.host(node):
            labels = {"hostname": host_of(node)}
            for name, value in zip(WORKER_GAUGES, (float(host.is_up), host.active), strict=True):
                yield _reading(name, labels, value, now)

    def take_gone(self) -> list[Gone]:
        """Return the series that leave since the last call: those of workers that gave way to new ones."""
        evicted, self._evicted = self._evicted, []
        return self._leave(evicted)

    # -- what time brings ---------------------------------------------------------------------------------------------

    def beat(self, now: float, silent_since: float | None) -> tuple[list[Point], list[Gone]]:
        """Notice what events don't say: lost workers, and the queues that the workers receive tasks from.

        Args:
            now: seconds since the epoch.
            silent_since: workers without an event since then are lost; None while nobody can tell.

        Returns:
            New readings, and the series that leave.
        """
        lost = [] if silent_since is None else self.workers.lose(silent_since, now)
        points = [point for node in lost for point in self._of_host(node, now)]
        gone = self._leave(self.workers.leave(now))
        counts, known = self.workers.count_by_queue(), self._counts
        changed = {queue: count for queue, count in counts.items() if known.get(queue) != count}
        points += [_reading(WORKERS_OF_QUEUE, {"queue_name": queue}, count, now) for queue, count in changed.items()]
        gone += [(WORKERS_OF_QUEUE, {"queue_name": queue}) for queue in known if queue not in counts]
        self._open_counts = counts
        return points, gone

    def abandon(self) -> list[Gone]:
        """Forget the workers, which another host's fleet hears; return the series that leave."""
        queues = {**self._counts, **self.workers.count_by_queue()}  # after a restart only the workers name the queues
        gone = self._leave(self.workers.drop_all())
        gone += [(WORKERS_OF_QUEUE, {"queue_name": queue}) for queue in queues]
        self._open_counts = {}
        return gone

    def _leave(self, nodes: list[str]) -> list[Gone]:
        hosts = {host_of(node) for node in nodes if self.workers.host(node) is None}
        return [(name, {"hostname": host}) for host in sorted(hosts) for name in WORKER_GAUGES]

    # -- the batch ----------------------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make what the open batch changed last."""
        self.tasks.commit()
        self.workers.commit()
        if self._open_counts is not None:
            self._counts, self._open_counts = self._open_counts, None

    def rollback(self) -> None:
        """Forget the open batch; the series that it made are gone, too."""
        self._exposed.clear()
        self._open_counts = None
        self._evicted = []
        self.tasks.rollback()
        self.workers.rollback()

    def forget(self, before: float) -> None:
        """Drop the tasks that were unheard since `before`."""
        self.tasks.forget(before)

    def move(self, seconds: float, now: float) -> bool:
        """Move the times when tasks and workers were heard; return whether one changed."""
        return any([self.tasks.move(seconds, now), self.workers.move(seconds, now)])

    @property
    def has_changes(self) -> bool:
        """Return whether the open batch changes anything here."""
        return self.tasks.has_changes or self.workers.has_changes

    def dump(self, *, whole: bool) -> dict[str, Any]:
        """Return the open changes, or all, as JSON-ready values for the journal."""
        return {**self.tasks.dump(whole=whole), "workers": self.workers.dump(whole=whole)}

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Take over what `dump` made, on top of what is known."""
        self.tasks.load(dumped)
        self.workers.load(dumped["workers"])


def _count(kind: str, labels: Mapping[str, str], amount: int, exception: str = "") -> Point:
    name = f"celery_task_{kind}_total"
    return Point(name, name, "counter", amount, {**labels, "exception": exception} if kind == "failed" else labels)


def _observe(name: str, labels: Mapping[str, str], seconds: float) -> Point:
    return Point(name, name, "histogram", [max(0.0, seconds)], labels)


def _reading(name: str, labels: Mapping[str, str], value: float, now: float) -> Point:
    return Point(name, name, "gauge", value, labels, now, op=SET)


def _waits(event: TaskEvent, before: Task, labels: Mapping[str, str]) -> Iterator[Point]:
    """Yield the waits that the event ends, or that it is the later half of: a client's event may come after a worker's.

    A wait for the time that its sender asked for isn't one.
    """
    without_host = {"name": labels["name"], "queue_name": labels["queue_name"]}
    if event.kind == "received" and before.sent_at:
        yield from _wait("celery_task_sent_to_received_seconds", without_host, before.sent_at, event.at)
    elif event.kind == "sent" and before.received_at > event.at:
        yield from _wait("celery_task_sent_to_received_seconds", without_host, event.at, before.received_at)
    elif event.kind == "started":
        for name, since, kept in (
            ("celery_task_received_to_started_seconds", before.received_at, without_host),
            ("celery_task_queue_wait_time", before.queued_at, labels),
        ):
            yield from _wait(name, kept, max(since, before.due) if since else 0.0, event.at)


def _wait(name: str, labels: Mapping[str, str], since: float, until: float) -> Iterator[Point]:
    if since and until and abs(until - since) <= _BELIEVED_SECONDS:
        yield _observe(name, labels, until - since)
