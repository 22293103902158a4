"""Taskiq's middleware: tasks of a worker. On the event loop and in its threads.

`broker.add_middlewares(TaskiqTelemetry(telemetry))`.
"""

from typing import Any

from taskiq import TaskiqMessage, TaskiqMiddleware, TaskiqResult
from taskiq.exceptions import NoResultError

from busmon.instrument.tasks import Tasks
from busmon.publish import Telemetry


class TaskiqTelemetry(TaskiqMiddleware):
    """Counts tasks in `tasks_processed_total`, `task_failures_total`, `task_duration_seconds`, `active_tasks_count`.

    Each failed attempt counts in `task_failures_total`. A task counts as processed once: an attempt whose result
    Taskiq's retry middleware withdraws isn't the last one. A task that raises `NoResultError` is a success.

    Args:
        telemetry: the publisher of the figures.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__()
        self._tasks = Tasks(telemetry)

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Count a task as in work."""
        self._tasks.start()
        return message

    def on_error(self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException) -> None:
        """Count a failed attempt, or the success of a task that withholds its result."""
        del message, result
        if isinstance(exception, NoResultError):
            self._tasks.succeed()
        else:
            self._tasks.fail_attempt(exception)

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Count a task as processed, unless another attempt follows: the retry middleware has put its own error in."""
        del message
        self._tasks.end(result.execution_time)
        if not result.is_err:
            self._tasks.succeed()
        elif not isinstance(result.error, NoResultError):
            self._tasks.fail()
