"""Celery: do its tasks flow, how do they end, how long do they wait and take, and are its workers there?"""

from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.levels import Levels
from busmon.dashboards.parts.panels import THIRD, Aim, Lines, Number
from busmon.dashboards.parts.promql import FLEET, or_none, rate, sum_recorded, top, total

_UP = "hostname:celery_worker_up:max"
_LENGTH = "queue_name:celery_queue_length:max"
_RATIO = "name:celery_task:failure_ratio5m"
_ENDED, _FAILED = "name:celery_task_ended:rate5m", "name:celery_task_failed:rate5m"
_ENDS, _ATTEMPT_ENDS = ("succeeded", "failed"), ("succeeded", "failed", "retried", "revoked", "rejected")
_BY_CLASS = f'{FLEET}, exception!=""'  # a failure that hasn't happened is counted with an empty class, at 0
_FAILURES = Aim(
    "Tasks that ended with an exception, of all that ended. Aim for less than 1 %.",
    Levels(0.01, ("CeleryTasksFail", "ratio")),
    ("CeleryTasksFail",),
)
_WAITING = Aim(
    "Tasks that no worker has taken yet. Aim for a line that comes back to 0.",
    Levels(("CeleryQueueGrows", "messages"), 1000),
    ("CeleryQueueGrows", "CeleryNothingConsumed"),
)


def _quantile(histogram: str, by: str) -> str:
    """Compute the p95 of a histogram of Celery by a label."""
    return f"histogram_quantile(0.95, {rate(f'{histogram}_bucket', f'{by}, le')})"


def _each_minute(kind: str) -> str:
    return f"60 * {rate(f'celery_task_{kind}_total')}"


def _all_each_minute(kinds: tuple[str, ...], by: str = "") -> str:
    """Compute the increase of several counters per minute, over the same window as that of one."""
    return f"60 * ({' + '.join(rate(f'celery_task_{kind}_total', by) for kind in kinds)})"


BOARD = Board(
    uid="busmon-celery",
    title="Celery",
    about="Celery's tasks, workers and queues: do tasks flow, how do they end, how long do they wait and take?",
    rows={
        "At a glance": (
            Number(
                "Hosts with a worker",
                Aim("Whose workers are heard. Aim for all that you started.", runbooks=("CeleryWorkerGone",)),
                f"sum({_UP}{{{FLEET}}})",
                "locale",
                decimals=0,
            ),
            Number(
                "Tasks in progress",
                Aim("On all workers. Aim for more than 0 while tasks wait."),
                total("celery_worker_tasks_active"),
                "locale",
                decimals=0,
            ),
            Number("Tasks waiting", _WAITING, sum_recorded(_LENGTH), "locale", decimals=0),
            Number(
                "Ended per minute",
                Aim("Tasks that succeeded or failed. Aim for at least the number sent."),
                _all_each_minute(_ENDS),
                "locale",
                decimals=0,
            ),
            Number(
                "Failed",
                _FAILURES,
                f"{sum_recorded(_FAILED)} / ({sum_recorded(_ENDED)} > 0)",
                "percentunit",
                decimals=2,
            ),
            Number(
                "Wait in the queue, p95",
                Aim("From a client's sending to a worker's receiving. Aim for less than 1 s.", Levels(1, 60)),
                f"histogram_quantile(0.95, {rate('celery_task_sent_to_received_seconds_bucket', 'le')})",
                "s",
                decimals=2,
            ),
        ),
        "Tasks": (
            Lines(
                "Sent, received and ended per minute",
                Aim(
                    "Each attempt is sent, is received, and ends: also with a retry or by revocation. Aim for equal "
                    "lines: queues grow by the difference of the first two.",
                    runbooks=("CeleryQueueGrows",),
                ),
                {
                    "sent": _each_minute("sent"),
                    "received": _each_minute("received"),
                    "ended": _all_each_minute(_ATTEMPT_ENDS),
                },
                "tasks/min",
                span=THIRD,
                dashed=("ended",),
            ),
            Lines(
                "Ended per minute, by task",
                Aim("The 8 most frequent tasks. Aim for what you expect."),
                {"{{name}}": top(8, _all_each_minute(_ENDS, "name"), _ENDED, "name")},
                "tasks/min",
                span=THIRD,
                stacked=True,
            ),
            Lines(
                "Retried, revoked and rejected per minute",
                Aim("Aim for a few retries: each is an attempt that failed."),
                {kind: _each_minute(kind) for kind in ("retried", "revoked", "rejected")},
                "tasks/min",
                span=THIRD,
            ),
        ),
        "Failures": (
            Lines(
                "Failed, by task",
                _FAILURES,
                {"{{name}}": top(8, f"max by (name) ({_RATIO}{{{FLEET}}})", _RATIO, "name")},
                "percentunit",
                span=THIRD,
            ),
            Lines(
                "Failures per minute, by exception",
                Aim("By the exception's class. Aim for none.", runbooks=("CeleryTasksFail",)),
                {
                    "{{exception}}": or_none(
                        f"60 * {rate('celery_task_failed_total', 'exception', _BY_CLASS)}", "exception"
                    )
                },
                "tasks/min",
                span=THIRD,
                stacked=True,
            ),
            Lines(
                "Failures per minute, by host",
                Aim("Aim for none; a single host points to the host."),
                {"{{hostname}}": f"60 * {rate('celery_task_failed_total', 'hostname')}"},
                "tasks/min",
                span=THIRD,
            ),
        ),
        "Time": (
            Lines(
                "Runtime by task, p95",
                Aim("Of tasks that succeeded. Aim for a stable line.", runbooks=("CeleryTasksSlow",)),
                {"{{name}}": _quantile("celery_task_runtime", "name")},
                "s",
                span=THIRD,
            ),
            Lines(
                "Wait in the queue, p95",
                Aim("From a client's sending to a worker's receiving. Aim for less than 1 s.", Levels(1, 60)),
                {"{{queue_name}}": _quantile("celery_task_sent_to_received_seconds", "queue_name")},
                "s",
                span=THIRD,
            ),
            Lines(
                "Wait in the worker, p95",
                Aim(
                    "From a worker's receiving to its start, after the eta. Aim for less than 1 s: "
                    "a longer one means that workers prefetch more than they do."
                ),
                {"{{queue_name}}": _quantile("celery_task_received_to_started_seconds", "queue_name")},
                "s",
                span=THIRD,
            ),
        ),
        "Workers and queues": (
            Lines(
                "Tasks in progress, by host",
                Aim("Aim for even lines.", runbooks=("CeleryWorkerGone",)),
                {"{{hostname}}": total("celery_worker_tasks_active", "hostname")},
                "short",
                span=THIRD,
            ),
            Lines(
                "Tasks waiting, by queue",
                _WAITING,
                {"{{queue_name}}": sum_recorded(_LENGTH, "queue_name")},
                "short",
                span=THIRD,
            ),
            Lines(
                "Consumers and workers, by queue",
                Aim("Consumers by the broker, workers by Celery's events. Aim for what you started."),
                {
                    "consumers of {{queue_name}}": total("celery_active_consumer_count", "queue_name"),
                    "workers of {{queue_name}}": total("celery_active_worker_count", "queue_name"),
                },
                "short",
                span=THIRD,
                dashed=("workers of {{queue_name}}",),
            ),
        ),
    },
)
