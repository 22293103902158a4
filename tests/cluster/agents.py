"""Agents that use the SDK, all in one process: `python -m tests.cluster.agents COUNT`, the broker as the settings say.

Each counts a task every 50 ms. SIGTERM ends them; the line that follows says how many tasks each agent has counted and
if all are confirmed.
"""

import json
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from busmon import Telemetry
from busmon.publish.instruments import Counter

STEP_SECONDS = 0.05
CLOSE_SECONDS = 120.0


def main(count: int) -> None:
    """Run so many agents until SIGTERM."""
    stopping: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: stopping.append(number))
    agents = [Telemetry(f"agent{number:02}", lifecycle=False) for number in range(count)]
    tasks = [_tasks(agent) for agent in agents]
    steps = 0
    while not stopping:
        for counter in tasks:
            counter.inc()
        steps += 1
        time.sleep(STEP_SECONDS)
    with ThreadPoolExecutor(count) as closing:
        are_confirmed = list(closing.map(lambda agent: agent.close(CLOSE_SECONDS), agents))
    sys.stdout.write(json.dumps({"tasks": {agent.agent: steps for agent in agents}, "confirmed": all(are_confirmed)}))


def _tasks(agent: Telemetry) -> Counter:
    family = agent.counter("tasks_processed_total", labelnames=["agent", "status"])
    return family.labels(agent.agent, "success")


if __name__ == "__main__":
    main(int(sys.argv[1]))
