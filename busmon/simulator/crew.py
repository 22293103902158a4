"""One process of the simulated platform: some agents, stepped together at a steady rate.

Run as `python -m busmon.simulator.crew`, with a task as one line of JSON on standard input; it prints lines of JSON:
progress now and then, its totals at the end. It ends after its steps or as soon as standard input is closed, so it
never outlives whoever started it. One thread steps the agents; the telemetry of each has its own.
"""

import select
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import orjson

from busmon import settings as all_settings
from busmon.catalogue import Catalogue
from busmon.publish import Telemetry
from busmon.settings import Settings
from busmon.simulator.agent import Agent, role_of
from busmon.simulator.report import Report
from busmon.simulator.totals import Totals
from busmon.simulator.weather import FAIR, Weather

CLOSE_SECONDS = 10.0
_PROGRESS_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Task:
    """The task of a crew.

    Attributes:
        numbers: of its agents, each of the whole platform.
        rate: steps a second, of each agent.
        steps: of each agent; None until it is stopped.
        seed: of the whole platform.
        weather: of the whole platform.
    """

    numbers: tuple[int, ...]
    rate: float
    steps: int | None
    seed: int
    weather: Weather = FAIR


class Member(NamedTuple):
    """An agent, what it publishes by, and what of that is confirmed."""

    agent: Agent
    telemetry: Telemetry
    totals: Totals


class Crew:
    """The agents of one process."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self._task = task
        catalogue = Catalogue.load(settings.catalogue)
        self._members = [_member(number, task, settings, catalogue) for number in task.numbers]
        self._reported_at = 0.0

    def run(self) -> Totals:
        """Run the agents to their end, and return the confirmed totals."""
        for member in self._members:
            member.agent.start()
        self._step()
        deadline = time.monotonic() + CLOSE_SECONDS
        together = Totals()
        for agent, telemetry, totals in self._members:
            agent.stop()
            totals.is_confirmed = telemetry.close(max(0.0, deadline - time.monotonic()))
            together.merge(totals)
        return together

    def _step(self) -> None:
        began, steps = time.monotonic(), 0
        while steps != self._task.steps and not _is_stopped(began + steps / self._task.rate):
            for member in self._members:
                member.agent.step(steps / self._task.rate)
            steps += 1
            self._report(steps)

    def _report(self, steps: int) -> None:
        now = time.monotonic()
        if now - self._reported_at >= _PROGRESS_SECONDS:
            self._reported_at = now
            totals = [member.totals for member in self._members]
            say(
                steps=steps,
                envelopes=sum(each.envelopes for each in totals),
                samples=sum(each.samples for each in totals),
            )


def say(**line: Any) -> None:
    """Print a line of JSON."""
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Run the task that standard input gives."""
    given = orjson.loads(sys.stdin.buffer.readline())
    task = Task(**{**given, "numbers": tuple(given["numbers"]), "weather": Weather(**given["weather"])})
    with suppress(BrokenPipeError):  # whoever started it is gone, and with them who would read
        # Kept on disk, what one simulation couldn't publish would be in the next one's totals.
        say(totals=asdict(Crew(task, replace(all_settings.load(), spool_bytes=0)).run()))


def _member(number: int, task: Task, settings: Settings, catalogue: Catalogue) -> Member:
    role, totals = role_of(number).name, Totals()
    telemetry = Telemetry(
        role, settings=settings, lifecycle=False, confirmed=lambda body: totals.add_body(catalogue, body)
    )
    agent = Agent(Report(telemetry, catalogue), number, task.seed, task.weather)
    return Member(agent, telemetry, totals)


def _is_stopped(until: float) -> bool:
    """Wait until then; whether standard input was closed before."""
    readable, _, _ = select.select([sys.stdin], [], [], max(0.0, until - time.monotonic()))
    return bool(readable)


if __name__ == "__main__":
    main()
