"""The metric families of tasks, which every instrument of a task framework counts in. Any thread."""

from concurrent.futures import TimeoutError as FutureTimeoutError

from busmon.publish import Telemetry

_TIMEOUTS = frozenset({"SoftTimeLimitExceeded", "TimeLimitExceeded", "TimeoutError", "TaskiqResultTimeoutError"})
_CATEGORIES: tuple[tuple[str, tuple[type[BaseException], ...]], ...] = (
    ("timeout", (TimeoutError, FutureTimeoutError)),
    ("resource", (MemoryError,)),
    ("dependency", (OSError, EOFError)),
    ("validation", (ValueError, TypeError, LookupError, AssertionError)),
)


class Tasks:
    """Tasks of one program: in work, processed, failed, and their duration.

    Args:
        telemetry: the publisher of the figures; its agent's name is the label `agent`.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        agent = telemetry.agent
        processed = telemetry.counter("tasks_processed_total", "", ["agent", "status"], domain="task")
        self._succeeded = processed.labels(agent, "success")
        self._failed = processed.labels(agent, "failure")
        self._failures = telemetry.counter("task_failures_total", "", ["agent", "category"], domain="task")
        self._duration = telemetry.histogram("task_duration_seconds", "", ["agent"], domain="task").labels(agent)
        self._active = telemetry.gauge("active_tasks_count", "", domain="task")
        self._agent = agent

    def start(self) -> None:
        """Count an attempt as in work."""
        self._active.inc()

    def end(self, seconds: float) -> None:
        """Count an attempt as no longer in work, and observe its duration."""
        self._active.dec()
        self._duration.observe(seconds)

    def succeed(self) -> None:
        """Count a task as processed with success."""
        self._succeeded.inc()

    def fail_attempt(self, error: BaseException | None) -> None:
        """Count a failed attempt, which may be retried, in the category of its exception."""
        self._failures.labels(self._agent, categorize(error)).inc()

    def fail(self) -> None:
        """Count a task as processed without success: no attempt follows."""
        self._failed.inc()


def categorize(error: BaseException | None) -> str:
    """Return the category of a failure: timeout, resource, dependency, validation or internal.

    The frameworks' own exceptions of time limits are known by name, so that no framework has to be imported.
    """
    if error is None:
        return "internal"
    if any(kind.__name__ in _TIMEOUTS for kind in type(error).__mro__):
        return "timeout"
    return next((category for category, kinds in _CATEGORIES if isinstance(error, kinds)), "internal")
