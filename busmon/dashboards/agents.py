"""Agent performance: who is at work, how well, and at what cost?"""

from busmon.dashboards import levels, links
from busmon.dashboards.board import Board
from busmon.dashboards.outcomes import outcomes
from busmon.dashboards.panels import QUARTER, THIRD, Aim, Lines, Number, Ranking
from busmon.dashboards.promql import (
    AGENTS,
    FAILED,
    PROCESSED,
    chosen,
    increase,
    largest,
    recorded,
    share,
    task_quantile,
    top_agents,
)

_TYPES = 'job=~"$job", type=~"$agent"'
_SILENCE = "agent:silence:age_seconds"
_STARTS, _STOPS, _RESTARTS = (
    (f"fleet:agent_{what}:increase5m", f"agent:agent_{what}:increase5m") for what in ("starts", "stops", "restarts")
)

BOARD = Board(
    uid="busmon-agents",
    title="Agent performance",
    about="Agents by type: who is at work, how well, and at what cost?",
    rows={
        "At a glance": (
            Number(
                "Active agents",
                Aim("Agents that run now, of all types. Aim for the number that you deployed."),
                recorded("type:active_agents:sum", "", _TYPES),
                "short",
            ),
            Number(
                "Tasks a minute",
                Aim("Tasks that the agents finished. Aim for no less than what is submitted.", more=links.TASKS),
                f"60 * {chosen(*PROCESSED)}",
                "locale",
                decimals=0,
            ),
            Number(
                "Tasks that fail",
                Aim(
                    "Failed tasks over all. Aim for less than 0.5 %.",
                    levels.ERROR_RATIO,
                    ("HighErrorRate", "ElevatedErrorRate"),
                    links.ERRORS,
                ),
                share(chosen(*FAILED), chosen(*PROCESSED)),
                "percentunit",
                decimals=2,
            ),
            Number(
                "Restarts",
                Aim(
                    "Agents started again after an unexpected end, in this time range. Aim for 0.",
                    levels.ANY,
                    ("AgentRestarted",),
                ),
                increase("agent_restarts_total", "", AGENTS),
                "locale",
                decimals=0,
            ),
            Number(
                "Longest silence",
                Aim(
                    "Since the last envelope of the agent that is silent the longest. Aim for less than 20 s.",
                    levels.SILENCE_SECONDS,
                    ("AgentSilent",),
                ),
                chosen("fleet:silence:age_seconds", _SILENCE, operation="max"),
                "s",
                decimals=1,
            ),
            Number(
                "Task time, p95",
                Aim("95 % of tasks take no longer. Aim for less than 2 s.", levels.RESPONSE_SECONDS, more=links.TASKS),
                task_quantile(0.95),
                "s",
                decimals=2,
            ),
        ),
        "Work": (
            Lines(
                "Active agents by type",
                Aim("Aim for steps that are deploys: any other step down is a crash.", runbooks=("AgentRestarted",)),
                {"{{type}}": recorded("type:active_agents:sum", "type", _TYPES)},
                "short",
                stacked=True,
            ),
            Lines(
                "Tasks a minute by agent",
                Aim(
                    "The 10 busiest. Aim for lines that move together: one that falls alone is in trouble.",
                    more=links.AGENT,
                ),
                {"{{agent}}": top_agents(10, "tasks_processed:rate5m", factor="60 * ")},
                "tasks/min",
            ),
            outcomes("Successes and failures a minute", links.ERRORS),
            Lines(
                "Failure ratio by agent",
                Aim(
                    "Failed tasks over all, the 10 worst. Aim for less than 0.5 %; from 1 % on, someone is called.",
                    levels.ERROR_RATIO,
                    ("HighErrorRate", "ElevatedErrorRate"),
                    links.TASKS_OF_AGENT,
                ),
                {"{{agent}}": top_agents(10, "tasks:error_rate5m", "max")},
                "percentunit",
            ),
        ),
        "Lifecycle": (
            Lines(
                "Starts, stops and restarts",
                Aim(
                    "Agent processes in each 5 minutes. Starts with stops are a deploy. Aim for no restarts.",
                    runbooks=("AgentRestarted",),
                ),
                {
                    "started": chosen(*_STARTS),
                    "stopped": chosen(*_STOPS),
                    "restarted": f"{chosen(*_RESTARTS)} or 0 * {chosen(*_STARTS)}",
                },
                "short",
                span=THIRD,
            ),
            Ranking(
                "Restarts by agent",
                Aim(
                    "In this time range, the 8 that restarted most. Aim for none.",
                    levels.RESTARTS,
                    ("AgentRestarted",),
                    links.TASKS_OF_AGENT,
                ),
                {"{{agent}}": f"sort_desc(topk(8, {increase('agent_restarts_total', 'agent', AGENTS)}))"},
                "short",
                span=THIRD,
            ),
            Ranking(
                "Time since last heard",
                Aim(
                    "Since an agent's last envelope, the 8 longest. Aim for less than 20 s: an idle agent gives "
                    "a sign of life "
                    "that often.",
                    levels.SILENCE_SECONDS,
                    ("AgentSilent",),
                    links.TASKS_OF_AGENT,
                ),
                {"{{agent}}": f"sort_desc(topk(8, {largest(_SILENCE, 'agent', AGENTS)}))"},
                "s",
                span=THIRD,
                top=levels.SILENCE_SECONDS.red,
            ),
        ),
        "Resources": (
            Lines(
                "CPU by agent",
                Aim(
                    "Cores in use by all of an agent's processes, the 8 busiest. Aim for a course that follows "
                    "the tasks."
                ),
                {"{{agent}}": top_agents(8, "agent_cpu_seconds:rate5m")},
                "cores",
                span=QUARTER,
            ),
            Lines(
                "Memory by agent",
                Aim(
                    "Resident memory of all of an agent's processes, the 8 largest. Aim for a level: a line that "
                    "only ever "
                    "rises is a leak.",
                    runbooks=("MemoryLeak",),
                ),
                {"{{agent}}": top_agents(8, "agent_memory_usage_bytes:sum")},
                "bytes",
                span=QUARTER,
            ),
            Lines(
                "Memory, of the limit",
                Aim(
                    "The 8 fullest. Aim for less than 85 %: at 100 % the agent is killed.",
                    levels.MEMORY,
                    ("HighMemoryUsage", "MemoryNearlyExhausted"),
                ),
                {"{{agent}}": top_agents(8, "memory:utilisation", "max")},
                "percentunit",
                span=QUARTER,
                top=1,
            ),
            Lines(
                "Network by agent",
                Aim(
                    "Bytes a second of the 4 that receive most and send most; sent is below zero. Aim for what "
                    "tasks explain."
                ),
                {
                    "{{agent}} received": top_agents(4, "agent_network_receive_bytes:rate5m"),
                    "{{agent}} sent": top_agents(4, "agent_network_transmit_bytes:rate5m", factor="-"),
                },
                "Bps",
                span=QUARTER,
            ),
        ),
    },
)
