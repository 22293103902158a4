"""The roles of the simulated platform: how busy each is, and what its tasks, messages and requests are like.

Plain data. Shares are weights: they need not add up to 1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

Weights = Mapping[str, float]

_SWELLS = ((97.0, 0.14, 1.0), (431.0, 0.10, 1.7), (1801.0, 0.06, 0.6))
"""Period in seconds, amplitude, and how much of an agent's phase it takes: periods without a common multiple."""


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of agent.

    Attributes:
        name: the `agent` label of what it publishes.
        busy: share of its steps with a task, at the peak of the day.
        task_seconds: the median time of a task.
        failing: times the platform's failure ratio.
        memory_megabytes: resident memory, usually.
        cpu_seconds: the median CPU time of a task.
        tasks: task types.
        failures: categories of its failures.
        queue: that it consumes.
        routing_key: that it publishes with.
    """

    name: str
    busy: float
    task_seconds: float
    failing: float
    memory_megabytes: float
    cpu_seconds: float
    tasks: Weights
    failures: Weights
    queue: str
    routing_key: str

    def load(self, seconds: float, phase: float) -> float:
        """Compute the share of steps with a task at a moment: `busy`, with waves of minutes and half hours.

        Args:
            seconds: since the start.
            phase: of the agent, in radians; agents of one role don't rise and fall together.
        """
        waves = sum(
            amplitude * math.sin(2 * math.pi * seconds / period + phase * turn) for period, amplitude, turn in _SWELLS
        )
        return min(1.0, self.busy * (1 + waves))


ROLES = (
    Role(
        name="coordinator",
        busy=0.75,
        task_seconds=0.18,
        failing=0.5,
        memory_megabytes=140,
        cpu_seconds=0.006,
        tasks={"summarize": 46, "classify": 31, "index": 14, "translate": 9},
        failures={"timeout": 60, "dependency": 30, "internal": 10},
        queue="results",
        routing_key="task.plan",
    ),
    Role(
        name="planner",
        busy=0.38,
        task_seconds=0.42,
        failing=0.7,
        memory_megabytes=180,
        cpu_seconds=0.012,
        tasks={"summarize": 60, "classify": 40},
        failures={"validation": 55, "timeout": 30, "internal": 15},
        queue="tasks",
        routing_key="task.analyze",
    ),
    Role(
        name="analyzer",
        busy=0.62,
        task_seconds=0.55,
        failing=1.6,
        memory_megabytes=300,
        cpu_seconds=0.035,
        tasks={"classify": 58, "index": 34, "summarize": 8},
        failures={"timeout": 48, "dependency": 27, "validation": 15, "resource": 10},
        queue="tasks",
        routing_key="task.write",
    ),
    Role(
        name="writer",
        busy=0.30,
        task_seconds=0.85,
        failing=1.3,
        memory_megabytes=260,
        cpu_seconds=0.028,
        tasks={"summarize": 64, "translate": 36},
        failures={"timeout": 70, "resource": 20, "internal": 10},
        queue="tasks",
        routing_key="task.review",
    ),
    Role(
        name="reviewer",
        busy=0.17,
        task_seconds=0.36,
        failing=0.9,
        memory_megabytes=160,
        cpu_seconds=0.015,
        tasks={"summarize": 55, "translate": 30, "classify": 15},
        failures={"validation": 75, "timeout": 25},
        queue="results",
        routing_key="task.done",
    ),
    Role(
        name="gateway",
        busy=0.9,
        task_seconds=0.09,
        failing=0.8,
        memory_megabytes=120,
        cpu_seconds=0.004,
        tasks={"index": 52, "classify": 28, "translate": 20},
        failures={"dependency": 45, "validation": 40, "timeout": 15},
        queue="notifications",
        routing_key="task.submit",
    ),
)
"""The platform's agents; further ones are replicas of these."""
