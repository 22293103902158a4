"""Agent performance: who is at work, how well, and at what cost?"""

from busmon.dashboards.parts import levels, links
from busmon.dashboards.parts.board import Board
from busmon.dashboards.parts.outcomes import outcomes
from busmon.dashboards.parts.panels import QUARTER, THIRD, Aim, Lines, Number, Ranking
from busmon.dashboards.parts.promql import (
    AGENTS,
    FAILED,
    PROCESSED,
    choose,
    increase,
    largest,
    share,
    sum_recorded,
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
    about="Agents by type: which agents work, how well, and at what cost?",
    rows={
        "At a glance": (
            Number(
                "Active agents",
                Aim("Running agents of all types. Aim for the number that you deployed."),
                sum_recorded("type:active_agents:sum", "", _TYPES),
                "short",
            ),
            Number(
                "Tasks per minute",
                Aim("Tasks finished by the agents. Aim for at least the number submitted.", more=links.TASKS),
                f"60 * {choose(*PROCESSED)}",
                "locale",
                decimals=0,
            ),
            Number(
                "Failed tasks",
                Aim(
                    "Failed tasks divided by all tasks. Aim for less than 0.5 %.",
                    levels.ERROR_RATIO,
                    ("HighErrorRate", "ElevatedErrorRate"),
                    links.ERRORS,
                ),
                share(choose(*FAILED), choose(*PROCESSED)),
                "percentunit",
                decimals=2,
            ),
            Number(
                "Restarts",
                Aim(
                    "Agents restarted after an unexpected end, in this time range. Aim for 0.",
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
                    "Time since the last envelope of the longest silent agent. Aim for less than 20 s.",
                    levels.SILENCE_SECONDS,
                    ("AgentSilent",),
                ),
                choose("fleet:silence:age_seconds", _SILENCE, operation="max"),
                "s",
                decimals=1,
            ),
            Number(
                "Task time, p95",
                Aim(
                    "95 % of the tasks take at most this long. Aim for less than 2 s.",
                    levels.RESPONSE_SECONDS,
                    more=links.TASKS,
                ),
                task_quantile(0.95),
                "s",
                decimals=2,
            ),
        ),
        "Work": (
            Lines(
                "Active agents by type",
                Aim("Aim for steps at deploys only: any other step down is a crash.", runbooks=("AgentRestarted",)),
                {"{{type}}": sum_recorded("type:active_agents:sum", "type", _TYPES)},
                "short",
                stacked=True,
            ),
            Lines(
                "Tasks per minute by agent",
                Aim(
                    "The 10 busiest. Aim for lines that move together: an agent whose line falls alone has a problem.",
                    more=links.AGENT,
                ),
                {"{{agent}}": top_agents(10, "tasks_processed:rate5m", factor="60 * ")},
                "tasks/min",
            ),
            outcomes("Successes and failures per minute", links.ERRORS),
            Lines(
                "Failure ratio by agent",
                Aim(
                    "Failed tasks divided by all tasks, the 10 worst agents. Aim for less than 0.5 %; above 1 "
                    "%, an alert pages.",
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
                    "Agent processes per 5 minutes. Starts together with stops are a deploy. Aim for no restarts.",
                    runbooks=("AgentRestarted",),
                ),
                {
                    "started": choose(*_STARTS),
                    "stopped": choose(*_STOPS),
                    "restarted": f"{choose(*_RESTARTS)} or 0 * {choose(*_STARTS)}",
                },
                "short",
                span=THIRD,
            ),
            Ranking(
                "Restarts by agent",
                Aim(
                    "In this time range, the 8 agents with most restarts. Aim for none.",
                    levels.RESTARTS,
                    ("AgentRestarted",),
                    links.TASKS_OF_AGENT,
                ),
                {"{{agent}}": f"sort_desc(topk(8, {increase('agent_restarts_total', 'agent', AGENTS)}))"},
                "short",
                span=THIRD,
            ),
            Ranking(
                "Time since last seen",
                Aim(
                    "Time since an agent's last envelope, the 8 longest. Aim for less than 20 s: an idle "
                    "agent sends a heartbeat every 15 s.",
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
                Aim("Cores used by all of an agent's processes, the 8 busiest. Aim for lines that follow the tasks."),
                {"{{agent}}": top_agents(8, "agent_cpu_seconds:rate5m")},
                "cores",
                span=QUARTER,
            ),
            Lines(
                "Memory by agent",
                Aim(
                    "Resident memory of all of an agent's processes, the 8 largest. Aim for stable lines: a "
                    "line that only rises is a leak.",
                    runbooks=("MemoryLeak",),
                ),
                {"{{agent}}": top_agents(8, "agent_memory_usage_bytes:sum")},
                "bytes",
                span=QUARTER,
            ),
            Lines(
                "Memory, share of the limit",
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
                    "Bytes per second of the 4 agents that receive most and send most; sent is below zero. "
                    "Aim for traffic that tasks explain."
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
