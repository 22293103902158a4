"""Celery's tasks as one shard knows them: the name, the queue and the times of each, by its uuid.

Only a task's first events say its name and queue, and an event may come twice: with its whole body, or in two bodies
where a dispatcher lost its connection. So events are known by their identity, in a ring. What an open batch changes is
kept apart until `commit`, and `rollback` forgets it. Bounded: of tasks that ended and of those that didn't, those that
were unheard longest give way. Pure: the shard persists it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from busmon.registry.celery.texts import Texts
from busmon.wire.celery_event import TaskEvent

MAX_TASKS = 100_000
"""Of a shard, waiting or in progress; some 300 bytes of memory each."""

MAX_ENDED = 10_000
"""Of a shard. A client reports that it sent a task after sending it, so the task may have ended before."""

RING_SIZE = 65_536
"""Events that are known again. A worker holds at most 1,000 bodies without an ack, of some 24 events."""

MAX_NAMES = 1000

UNKNOWN_NAME = "unknown"
DEFAULT_QUEUE = "celery"

_ENDING = frozenset({"succeeded", "failed", "revoked", "rejected"})


class Task(NamedTuple):
    """The record of one task.

    Attributes:
        name: empty if no event said it.
        queue: empty if no event said it.
        sent_at: by the client's clock, in seconds since the epoch; 0 if it isn't known, as in the next two.
        received_at: by the worker's clock.
        due: before this time the worker doesn't begin.
        heard_at: when its last event was folded.
        has_ended: nothing more is expected of it.
        queued_at: by the client's clock, until the worker begins; 0 if it isn't known.
    """

    name: str = ""
    queue: str = ""
    sent_at: float = 0.0
    received_at: float = 0.0
    due: float = 0.0
    heard_at: float = 0.0
    has_ended: bool = False
    queued_at: float = 0.0


_UNKNOWN = Task()


class CeleryTasks:
    """One shard's tasks, the events that it has counted, and the last queue of each task's name."""

    def __init__(self) -> None:
        self._live: OrderedDict[int, Task] = OrderedDict()  # the longest unheard first; see `Ledger`
        self._ended: OrderedDict[int, Task] = OrderedDict()
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._queues: OrderedDict[str, str] = OrderedDict()
        self.rollback()

    def rollback(self) -> None:
        """Forget the open batch."""
        self._open: dict[int, Task] = {}
        self._open_seen: dict[int, None] = {}
        self._open_queues: dict[str, str] = {}

    def is_new(self, identity: int) -> bool:
        """Take note of an event; return whether it wasn't counted before."""
        if identity in self._seen or identity in self._open_seen:
            return False
        self._open_seen[identity] = None
        return True

    def take(self, event: TaskEvent, now: float) -> tuple[Task, Task]:
        """Take a new event into the open batch; return its task as it was and as it is."""
        before = self._find(event.task)
        after = before._replace(heard_at=now, has_ended=event.kind in _ENDING)
        if event.kind == "sent":
            is_late = before.received_at > event.at  # then its wait is over already, and this begins no other
            sent_at = 0.0 if is_late else event.at
            after = self._name(event, before, after)._replace(
                sent_at=sent_at, queued_at=sent_at, has_ended=before.has_ended and is_late
            )
        elif event.kind == "received":
            after = self._name(event, before, after)._replace(sent_at=0.0, received_at=event.at, due=event.due)
        elif event.kind == "started":
            after = after._replace(queued_at=0.0)
        self._open[event.task] = after
        return before, after

    def name_of(self, task: Task) -> str:
        """Return the name by which a task is counted."""
        return task.name or UNKNOWN_NAME

    def queue_of(self, task: Task) -> str:
        """Return the queue by which a task is counted: its own, the last one of its name, or Celery's default."""
        if task.queue:
            return task.queue
        return self._open_queues.get(task.name) or self._queues.get(task.name) or DEFAULT_QUEUE

    @property
    def queues(self) -> list[str]:
        """Return the queues that tasks were sent to, each once, the last one at the end."""
        return [*dict.fromkeys(reversed([*self._queues.values(), *self._open_queues.values()]))][::-1]

    def commit(self) -> None:
        """Make what the open batch changed last."""
        for task, known in self._open.items():
            kept, other = (self._ended, self._live) if known.has_ended else (self._live, self._ended)
            other.pop(task, None)
            kept[task] = known
            kept.move_to_end(task)
        self._seen.update(self._open_seen)
        for name, queue in self._open_queues.items():
            self._queues[name] = queue
            self._queues.move_to_end(name)
        self.rollback()
        bounds = (self._live, MAX_TASKS), (self._ended, MAX_ENDED), (self._seen, RING_SIZE), (self._queues, MAX_NAMES)
        for kept_, most in bounds:
            _shorten(kept_, most)

    def forget(self, before: float) -> None:
        """Drop the tasks that were unheard since `before`, but for those that are due later."""
        for kept in (self._live, self._ended):
            for task in [task for task, known in kept.items() if max(known.heard_at, known.due) < before]:
                del kept[task]

    def move(self, seconds: float, now: float) -> bool:
        """Move the times when tasks were heard, but to none later than now: the clock was set.

        Returns:
            Whether a time changed.
        """
        is_changed = False
        for kept in (self._live, self._ended, self._open):
            for task, known in kept.items():
                if (at := min(known.heard_at + seconds, now)) != known.heard_at:
                    kept[task] = known._replace(heard_at=at)
                    is_changed = True
        return is_changed

    # -- the journal ----------------------------------------------------------------------------------------------

    def dump(self, *, whole: bool) -> dict[str, Any]:
        """Return the open changes, or all, as JSON-ready values for the journal; each text once."""
        texts = Texts()
        if whole:
            tasks: Iterable[tuple[int, Task]] = (*self._ended.items(), *self._live.items())
            seen, queues = [*self._seen], self._queues
        else:
            tasks, seen, queues = self._open.items(), [*self._open_seen], self._open_queues  # type: ignore[assignment]
        return {
            "tasks": [(task, texts.place(known.name), texts.place(known.queue), *known[2:]) for task, known in tasks],
            "seen": seen,
            "queues": [(texts.place(name), texts.place(queue)) for name, queue in queues.items()],
            "texts": texts.list_all(),
        }

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Take over what `dump` made, on top of what is known."""
        texts: Sequence[str] = dumped["texts"]
        self._open = {task: Task(texts[name], texts[queue], *rest) for task, name, queue, *rest in dumped["tasks"]}
        self._open_seen = dict.fromkeys(dumped["seen"])
        self._open_queues = {texts[name]: texts[queue] for name, queue in dumped["queues"]}
        self.commit()

    @property
    def has_changes(self) -> bool:
        """Return whether the open batch has an event."""
        return bool(self._open_seen)

    # -- one task -------------------------------------------------------------------------------------------------

    def _find(self, task: int) -> Task:
        return self._open.get(task) or self._live.get(task) or self._ended.get(task) or _UNKNOWN

    def _name(self, event: TaskEvent, before: Task, after: Task) -> Task:
        """Take over the name and queue that an event says."""
        name, queue = event.name or before.name, event.queue or before.queue
        if event.kind == "sent" and name and queue:
            self._open_queues[name] = queue
        return after._replace(name=name, queue=queue)


def _shorten(kept: OrderedDict[Any, Any], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
