"""The tasks that the exporters of a trial show, scraped several times a second, and the pauses between.

A thread scrapes each exporter. What one exporter shows is counted, whether others show it or not.
"""

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from threading import Event, Thread
from typing import NamedTuple, Self

from tests.cluster.fleets import NetworkFleet

SCRAPE_SECONDS = 0.2
OK = 200
_TASKS = re.compile(rb'^tasks_processed_total\{agent="(agent\d\d)",status="success"\} (\S+)$', re.MULTILINE)


class Counted(NamedTuple):
    """The counts of one scrape.

    Attributes:
        at: by the monotonic clock.
        tasks: by agent.
    """

    at: float
    tasks: Mapping[str, float]


class Gaps(NamedTuple):
    """The longest pauses in counting, in seconds: of all agents together, and of the agent that paused longest."""

    total: float
    worst: float


class Counts:
    """The scraper of all exporters; a context manager.

    Attributes:
        setbacks: counters of an exporter that went down, a line each.
    """

    def __init__(self, fleets: Sequence[NetworkFleet]) -> None:
        self.setbacks: list[str] = []
        self._rows: list[list[Counted]] = [[] for _ in fleets]
        self._ends = Event()
        self._threads = [
            Thread(target=self._scrape_until_ended, args=pair, name="scrapes")
            for pair in zip(fleets, self._rows, strict=True)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def last(self) -> list[Mapping[str, float]]:
        """Return the tasks of each exporter's last scrape, by agent."""
        return [rows[-1].tasks if rows else {} for rows in self._rows]

    def merged(self) -> list[Counted]:
        """Return what was counted by any exporter at each scrape."""
        return [*_merge(sorted(row for rows in self._rows for row in tuple(rows)))]

    def gaps(self, since: float, until: float) -> Gaps:
        """Measure the longest pauses in counting between two moments."""
        rows = [row for row in self.merged() if since <= row.at <= until]
        agents = sorted(rows[-1].tasks)
        total = _longest_pause((row.at, sum(row.tasks.values())) for row in rows)
        worst = max(_longest_pause((row.at, row.tasks.get(agent, 0.0)) for row in rows) for agent in agents)
        return Gaps(total, worst)

    def _scrape_until_ended(self, fleet: NetworkFleet, rows: list[Counted]) -> None:
        shown: dict[str, float] = {}
        while not self._ends.wait(SCRAPE_SECONDS):
            with suppress(OSError):
                answer, body = fleet.get("/metrics")
                if answer != OK:  # a replica is being read
                    continue
                tasks = {agent.decode(): float(value) for agent, value in _TASKS.findall(body)}
                self.setbacks += [
                    f"{fleet.host.ip}: {agent} went from {before} to {tasks.get(agent)}"
                    for agent, before in shown.items()
                    if tasks.get(agent, 0.0) < before
                ]
                shown = tasks
                rows.append(Counted(time.monotonic(), tasks))


def _merge(rows: Iterable[Counted]) -> Iterator[Counted]:
    most: dict[str, float] = {}
    for row in rows:
        most = most | {agent: max(tasks, most.get(agent, 0.0)) for agent, tasks in row.tasks.items()}
        yield Counted(row.at, most)


def _longest_pause(counts: Iterable[tuple[float, float]]) -> float:
    """Return for how long at most the count stayed as it was."""
    longest, (changed_at, last), at = 0.0, (0.0, -1.0), 0.0
    for at, count in counts:
        if count != last:
            longest = max(longest, at - changed_at) if last >= 0 else 0.0
            changed_at, last = at, count
    return max(longest, at - changed_at)
