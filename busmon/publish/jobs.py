"""Batch jobs: that a run began, and that it ended well or failed. Any thread; a context manager, or a decorator."""

from types import TracebackType
from typing import Self

from busmon.publish.definitions import Definitions
from busmon.publish.timing import Around

_LABELS = ("job_name",)


class Job(Around):
    """Counts the runs of a batch job.

    Args:
        definitions: make what it is counted by.
        name: the job's.
    """

    __slots__ = ("_completed", "_failed", "_started", "_succeeded_at")

    def __init__(self, definitions: Definitions, name: str) -> None:
        self._started = definitions.counter("batch_jobs_started_total", "", _LABELS, domain="task").labels(name)
        self._completed = definitions.counter("batch_jobs_completed_total", "", _LABELS, domain="task").labels(name)
        self._failed = definitions.counter("batch_jobs_failed_total", "", _LABELS, domain="task").labels(name)
        last_success = definitions.gauge("batch_job_last_success_timestamp_seconds", "", _LABELS, domain="task")
        self._succeeded_at = last_success.labels(name)

    def __enter__(self) -> Self:
        self._started.inc()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._completed.inc()
            self._succeeded_at.set_to_current_time()
        else:
            self._failed.inc()
