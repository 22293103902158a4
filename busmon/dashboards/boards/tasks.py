"""Task processing: do tasks flow, how long do they take, and what are they?"""

from busmon.dashboards.parts import levels, links
from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.outcomes import outcomes
from busmon.dashboards.parts.panels import THIRD, Aim, Density, Lines, Number, Ranking
from busmon.dashboards.parts.promql import (
    AGENTS,
    FAILED,
    FLEET,
    PROCESSED,
    TASK_BUCKETS,
    choose,
    increase,
    per_minute,
    share,
    sum_recorded,
    task_quantile,
    top,
    top_agents,
    total,
)

_WAITING = "priority:task_queue_depth:max"
_QUEUES = "queue:queue_size:max"
_SUBMITTED = "type_priority:tasks_submitted:rate5m"
_FAILURES = "category:task_failures:rate5m", "agent_category:task_failures:rate5m"
_ERROR_RATE = share(choose(*FAILED), choose(*PROCESSED))
_ERROR_AIM = Aim(
    "Failed tasks divided by all tasks. Aim for less than 0.5 %.",
    levels.ERROR_RATIO,
    ("HighErrorRate", "ElevatedErrorRate", "TaskFailuresSpike"),
    links.ERRORS,
)
_SECONDS = levels.RESPONSE_SECONDS

BOARD = Board(
    uid="busmon-tasks",
    title="Task processing",
    about="Tasks from queue to result: do they flow, how long do they take, of which kinds are they?",
    rows={
        "At a glance": (
            Number(
                "Tasks waiting",
                Aim("Of all priorities. Aim for less than 1,000.", levels.QUEUE, ("QueueBackup", "QueueOverflow")),
                sum_recorded(_WAITING),
                "locale",
                decimals=0,
            ),
            Number(
                "Tasks in progress",
                Aim("Of all agents. Aim for more than 0 while tasks wait."),
                total("active_tasks_count"),
                "locale",
                decimals=0,
            ),
            Number(
                "Finished per minute",
                Aim("Aim for at least the number submitted.", more=links.AGENTS),
                f"60 * {choose(*PROCESSED)}",
                "locale",
                decimals=0,
            ),
            Number("Error rate", _ERROR_AIM, _ERROR_RATE, "percentunit", decimals=2),
            Number(
                "Processing time, p50",
                Aim("Half of the tasks take at most this long. Aim for less than 1 s.", levels.MEDIAN_SECONDS),
                task_quantile(0.5),
                "s",
                decimals=2,
            ),
            Number(
                "Processing time, p95",
                Aim(
                    "95 % of the tasks take at most this long. Aim for less than 2 s.", _SECONDS, ("SlowResponseTime",)
                ),
                task_quantile(0.95),
                "s",
                decimals=2,
            ),
        ),
        "Queue": (
            Lines(
                "Tasks waiting, by priority",
                Aim(
                    "Aim for stable lines: if a line rises, more arrives than is done.",
                    runbooks=("QueueBackup", "QueueOverflow", "QueueFillsFast"),
                ),
                {"{{priority}}": sum_recorded(_WAITING, "priority")},
                "short",
                stacked=True,
                span=THIRD,
            ),
            Lines(
                "Submitted and finished per minute",
                Aim("Aim for equal lines: the queue grows by their difference.", more=links.AGENTS),
                {"submitted": per_minute(_SUBMITTED), "finished": f"60 * {choose(*PROCESSED)}"},
                "tasks/min",
                span=THIRD,
                dashed=("finished",),
            ),
            Lines(
                "Messages in queues",
                Aim(
                    "The 8 longest. Aim for less than 1,000; 10,000 is an overflow.",
                    levels.QUEUE,
                    ("QueueBackup", "QueueOverflow", "QueueFillsFast"),
                    links.PIPELINE,
                ),
                {"{{queue}}": top(8, f"max by (queue) ({_QUEUES}{{{FLEET}}})", _QUEUES, "queue")},
                "short",
                span=THIRD,
            ),
        ),
        "Processing time": (
            Lines(
                "Processing time: p50, p95, p99",
                Aim(
                    "Aim for a p95 of less than 2 s. A p99 far above means that a few tasks take much longer.", _SECONDS
                ),
                {f"p{percent}": task_quantile(percent / 100) for percent in (50, 95, 99)},
                "s",
                span=THIRD,
            ),
            Density(
                "Processing time distribution",
                Aim(
                    "Tasks per second by duration. Aim for one band below 2 s: two bands are two kinds of "
                    "task, or a slow replica."
                ),
                {"{{le}}": choose(*TASK_BUCKETS, "le")},
                "s",
                span=THIRD,
                buckets=True,
            ),
            Lines(
                "Processing time by agent, p95",
                Aim("The 8 slowest. Aim for less than 2 s.", _SECONDS, ("SlowResponseTime",), links.AGENT),
                {"{{agent}}": top_agents(8, "task_duration_seconds:p95_5m", "max")},
                "s",
                span=THIRD,
            ),
        ),
        "Throughput and kinds": (
            outcomes("Tasks per minute", links.AGENTS, THIRD),
            Lines(
                "Tasks per hour",
                Aim("At the rate of the last hour. Aim for yesterday's number at the same time of day."),
                {"tasks": f"3600 * {choose('fleet:tasks_processed:rate1h', 'agent:tasks_processed:rate1h')}"},
                "tasks/h",
                span=THIRD,
            ),
            Ranking(
                "Task types",
                Aim("Share of submitted tasks in this time range, the 8 most frequent types. Aim for what you expect."),
                {
                    "{{type}}": f"sort_desc(topk(8, {increase('tasks_submitted_total', 'type')}) "
                    f"/ on () group_left () {increase('tasks_submitted_total')})"
                },
                "percentunit",
                span=THIRD,
                top=1,
            ),
        ),
        "Errors": (
            Lines("Error rate", _ERROR_AIM, {"error rate": _ERROR_RATE}, "percentunit", span=THIRD),
            Lines(
                "Failed attempts per minute, by category",
                Aim("Aim for none. `dependency` and `resource` point to causes outside the agents.", more=links.ERRORS),
                {"{{category}}": f"60 * {choose(*_FAILURES, 'category')}"},
                "failures/min",
                stacked=True,
                span=THIRD,
            ),
            Ranking(
                "Failed attempts by category",
                Aim("In this time range. Aim for none; start with the longest bar.", more=links.ERRORS),
                {"{{category}}": f"sort_desc(topk(8, round({increase('task_failures_total', 'category', AGENTS)})))"},
                "short",
                span=THIRD,
            ),
        ),
    },
)
