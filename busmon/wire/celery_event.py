"""The events of Celery's workers and clients, as the decoder gives them to the fold. Plain data."""

from typing import NamedTuple


class TaskEvent(NamedTuple):
    """One event of a task.

    Attributes:
        identity: a digest of the members that tell the event from every other one.
        kind: Celery's type without `task-`: `sent`, `received` and so on.
        node: the worker or client that reports, by Celery's name of it, `NAME@HOST`.
        at: when it happened, in seconds since the epoch; 0 where it doesn't say.
        task: a digest of the task's uuid.
        name: the task's; empty where the event doesn't say.
        queue: the queue that the task was sent to; empty where the event doesn't say.
        due: when the task may begin, in seconds since the epoch; 0 where it may at once.
        runtime: of a task that succeeded, in seconds; None where the event doesn't say.
        exception: the name of the exception's class; empty where there is none.
    """

    identity: int
    kind: str
    node: str
    at: float
    task: int
    name: str = ""
    queue: str = ""
    due: float = 0.0
    runtime: float | None = None
    exception: str = ""


class WorkerEvent(NamedTuple):
    """One event of a worker.

    Attributes:
        identity: as a task's.
        kind: `online`, `heartbeat` or `offline`.
        node: the worker, by Celery's name of it, `NAME@HOST`.
        at: as a task's.
        active: the tasks in progress.
    """

    identity: int
    kind: str
    node: str
    at: float
    active: float = 0.0


CeleryEvent = TaskEvent | WorkerEvent


def host_of(node: str) -> str:
    """Return the host in a node's name, which is what celery-exporter has as `hostname`."""
    return node.rpartition("@")[2] or node
