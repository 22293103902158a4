"""The publishers of a simulated day: each is a source of its own, lives for minutes, and says what many others say.

Most use the SDK's form; some have ids of their own, totals in Prometheus' text, or lines of StatsD. A seed decides
all. Pure.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any, NamedTuple

DAY_SECONDS = 86_400.0
AGENTS = ("planner", "writer", "analyzer", "reviewer", "editor")
LIVES_SECONDS = (30.0, 900.0)
BODIES = 3
"""Of each source; the last one of a source of the SDK's says that it is the last."""
TASKS = "tasks_processed_total"
VALUES_AT_A_TIME = 200
_FORMS = ("sdk",) * 16 + ("ids", "ids", "prometheus", "statsd")


class Body(NamedTuple):
    """One body, due at a time, in seconds since the churn began."""

    at: float
    number: int
    content: bytes
    properties: dict[str, Any]
    routing_key: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Churn:
    """The publishers.

    Attributes:
        sources: that begin in a day.
        values: of a label that begin in a day.
        days: how many.
        seed: decides all.
    """

    sources: int
    values: int
    days: int
    seed: int

    def bodies(self) -> Iterator[Body]:
        """Yield all bodies in order."""
        chance, waiting, number = random.Random(self.seed), list[Body](), 0
        for source in range(self.sources * self.days):
            born = source * DAY_SECONDS / self.sources
            while waiting and waiting[0].at <= born:
                yield heappop(waiting)
            life = chance.uniform(*LIVES_SECONDS)
            form, agent = chance.choice(_FORMS), chance.choice(AGENTS)
            for turn in range(BODIES):
                number += 1
                at = born + life * turn / BODIES
                if at < self.days * DAY_SECONDS:
                    value = f"/v{int(at / DAY_SECONDS * self.values) + chance.randrange(VALUES_AT_A_TIME)}"
                    heappush(waiting, _body(form, f"{agent}-{source:x}", agent, at, number, turn + 1, value))
        while waiting:
            yield heappop(waiting)


def _body(form: str, source: str, agent: str, at: float, number: int, turn: int, value: str) -> Body:  # noqa: PLR0913, PLR0917
    headers = {"source": source}
    properties: dict[str, Any] = {"app_id": agent, "headers": headers}
    if form == "prometheus":
        text = f'# TYPE {TASKS} counter\n{TASKS}{{agent="{agent}",status="success"}} {turn}\n'
        properties |= {"content_type": "text/plain; version=0.0.4"}
        return Body(at, number, text.encode(), properties, "a.task", 1)
    if form == "statsd":
        return Body(at, number, f"pages:{turn}|c\n".encode(), properties, "ruled.dogstatsd", 0)
    properties |= {"message_id": f"{source}:{turn}" if form == "sdk" else f"id-{number}"}
    tables = [
        {"name": TASKS, "labels": ["agent", "status"], "rows": [[agent, "success", 1]]},
        {"name": "task_duration_seconds", "labels": ["agent"], "rows": [[agent, [0.2, 3.0]]]},
        {"name": "active_agents", "labels": ["type"], "rows": [[agent, 1]]},
        {"name": "pages_read_total", "type": "counter", "labels": ["page"], "rows": [[value, 1]]},
        {"name": "pages_open", "type": "gauge", "labels": ["page"], "rows": [[value, turn]]},
    ]
    document = {"v": 1, "source": source, "agent": agent, "samples": [], "tables": tables, "final": turn == BODIES}
    return Body(at, number, json.dumps(document).encode(), properties, "a.task", 1)
