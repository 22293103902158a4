"""Celery's workers as one shard knows them: when each was heard, how many tasks it has in progress, its queues.

A host's gauges are those of all its workers together, as celery-exporter labels them by host. A worker without a
heartbeat is lost: its gauges go to 0, and leave later. A worker that says goodbye leaves sooner. What an open batch
changes is kept apart until `commit`, and `rollback` forgets it. Pure: the shard persists it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from busmon.wire.celery_event import host_of

MAX_WORKERS = 10_000
MAX_OF_HOST = 100
"""Each heartbeat adds up the workers of its host, so one more takes the place of the longest unheard."""

MAX_QUEUES = 20
"""Of a worker, the last ones that it received tasks from."""

LOST_SHOWN_SECONDS = 3600.0
"""So that an alert about a lost worker stays until somebody has seen it."""

STOPPED_SHOWN_SECONDS = 60.0
"""A worker that was stopped in order is no fault: nothing is to fire."""

UP, STOPPED, LOST = "up", "stopped", "lost"


class Worker(NamedTuple):
    """The record of one worker.

    Attributes:
        heard_at: when its last event was folded, in seconds since the epoch; once it is gone, when that was noticed.
        active: its tasks in progress, as its last heartbeat has them.
        state: `up`, `stopped` or `lost`.
        queues: those that it received tasks from.
    """

    heard_at: float
    active: float = 0.0
    state: str = UP
    queues: tuple[str, ...] = ()


class Host(NamedTuple):
    """The readings of a host's gauges."""

    is_up: bool
    active: float


class CeleryWorkers:
    """One shard's workers."""

    def __init__(self) -> None:
        self._known: dict[str, Worker] = {}
        self._open: dict[str, Worker | None] = {}
        self._hosts: dict[str, set[str]] = {}
        self._count = 0

    def rollback(self) -> None:
        """Forget the open batch."""
        for node in self._open:
            if node in self._known:
                self._list(node)
            else:
                self._unlist(node)
        self._open = {}

    def hear(self, node: str, now: float, active: float, *, is_leaving: bool = False) -> list[str]:
        """Take a worker's own event into the open batch; return the workers that give way to a new one."""
        known = self._find(node)
        evicted = self._make_room(host_of(node)) if known is None else []
        queues = known.queues if known else ()
        self._set(node, Worker(now, 0.0 if is_leaving else active, STOPPED if is_leaving else UP, queues))
        return evicted

    def note_queue(self, node: str, queue: str) -> None:
        """Note that a worker receives tasks from a queue; one that has sent no heartbeat yet isn't known."""
        known = self._find(node)
        if known is not None and queue not in known.queues:
            self._set(node, known._replace(queues=(*known.queues, queue)[-MAX_QUEUES:]))

    def lose(self, before: float, now: float) -> list[str]:
        """Note the workers that were unheard since `before` as lost; return them."""
        lost = [node for node, worker in self._each() if worker.state == UP and worker.heard_at < before]
        for node in lost:
            worker = self._find(node)
            if worker is not None:
                self._set(node, worker._replace(heard_at=now, active=0.0, state=LOST))
        return lost

    def leave(self, now: float) -> list[str]:
        """Drop the workers that have been gone for long enough; return them."""
        shown = {STOPPED: STOPPED_SHOWN_SECONDS, LOST: LOST_SHOWN_SECONDS}
        gone = [
            node for node, worker in self._each() if worker.state != UP and worker.heard_at + shown[worker.state] < now
        ]
        for node in gone:
            self._remove(node)
        return gone

    def drop_all(self) -> list[str]:
        """Drop every worker; return them."""
        nodes = [node for node, _ in self._each()]
        for node in nodes:
            self._remove(node)
        return nodes

    def host(self, node: str) -> Host | None:
        """Return what the gauges of a worker's host say; None if nothing is left of it."""
        workers = [worker for each in self._hosts.get(host_of(node), ()) if (worker := self._find(each))]
        if not workers:
            return None
        return Host(any(worker.state == UP for worker in workers), sum(worker.active for worker in workers))

    def count_by_queue(self) -> dict[str, int]:
        """Count the workers that are up by the queues that they have received tasks from."""
        counts: dict[str, int] = {}
        for _, worker in self._each():
            for queue in worker.queues:
                counts[queue] = counts.get(queue, 0) + (worker.state == UP)
        return counts

    def commit(self) -> None:
        """Make what the open batch changed last."""
        for node, worker in self._open.items():
            if worker is None:
                self._known.pop(node, None)
                self._unlist(node)
            else:
                self._known[node] = worker
                self._list(node)
        self._open = {}

    def move(self, seconds: float, now: float) -> bool:
        """Move the times when workers were heard, but to none later than now: the clock was set.

        Returns:
            Whether a time changed.
        """
        is_changed = False
        for node, worker in [*self._each()]:
            if (at := min(worker.heard_at + seconds, now)) != worker.heard_at:
                kept: dict[str, Any] = self._open if node in self._open else self._known
                kept[node] = worker._replace(heard_at=at)
                is_changed = True
        return is_changed

    # -- the journal ----------------------------------------------------------------------------------------------

    def dump(self, *, whole: bool) -> dict[str, Worker | None]:
        """Return the open changes, or all, as JSON-ready values for the journal."""
        return dict(self._known) if whole else dict(self._open)

    def load(self, dumped: Mapping[str, Iterable[Any] | None]) -> None:
        """Take over what `dump` made, on top of what is known."""
        for node, fields in dumped.items():
            self._open[node] = None if fields is None else _load(*fields)
        self.commit()

    @property
    def has_changes(self) -> bool:
        """Return whether the open batch changes a worker."""
        return bool(self._open)

    # -- one worker -----------------------------------------------------------------------------------------------

    def _find(self, node: str) -> Worker | None:
        return self._open[node] if node in self._open else self._known.get(node)

    def _set(self, node: str, worker: Worker) -> None:
        self._open[node] = worker
        self._list(node)

    def _remove(self, node: str) -> None:
        """Take a worker out, and at once of its host's, which are gone through for each of the others."""
        self._open[node] = None
        self._unlist(node)

    def _each(self) -> Iterator[tuple[str, Worker]]:
        for node in [*self._known, *(node for node in self._open if node not in self._known)]:
            if worker := self._find(node):
                yield node, worker

    def _make_room(self, host: str) -> list[str]:
        """Remove workers where one more is too many: those that are gone first, then the longest unheard."""
        of_host = self._hosts.get(host, ())
        if len(of_host) >= MAX_OF_HOST:
            evicted = self._sort((node, worker) for node in of_host if (worker := self._find(node)))[:1]
        elif self._count >= MAX_WORKERS:
            evicted = self._sort(self._each())[: MAX_WORKERS // 10]  # many at once, since each time all are sorted
        else:
            return []
        for node in evicted:
            self._remove(node)
        return evicted

    @staticmethod
    def _sort(workers: Iterable[tuple[str, Worker]]) -> list[str]:
        return [node for node, _ in sorted(workers, key=lambda each: (each[1].state == UP, each[1].heard_at))]

    def _list(self, node: str) -> None:
        nodes = self._hosts.setdefault(host_of(node), set())
        self._count += node not in nodes
        nodes.add(node)

    def _unlist(self, node: str) -> None:
        host = host_of(node)
        nodes = self._hosts.get(host, set())
        self._count -= node in nodes
        nodes.discard(node)
        if not nodes:
            self._hosts.pop(host, None)


def _load(heard_at: float, active: float, state: str, queues: Iterable[str]) -> Worker:
    return Worker(heard_at, active, state, tuple(queues))
