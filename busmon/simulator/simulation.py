"""`run`: the simulated agent platform in several processes, and the totals of what it published.

It starts crews, follows what they print, and stops them by closing their standard input; none is left when it returns,
however it returns. Ctrl-C (KeyboardInterrupt) stops the platform in order. One thread.
"""

import os
import selectors
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, astuple, dataclass
from math import inf
from pathlib import Path
from time import monotonic, time
from typing import IO, Self, cast

import orjson

from busmon.bus.publish.publisher import ConfirmedPublisher
from busmon.catalogue import Catalogue
from busmon.errors import DemoError
from busmon.publish.batch import farewell
from busmon.publish.outbox import Outbox
from busmon.publish.sender import new_origin
from busmon.settings import Settings
from busmon.simulator.crew import CLOSE_SECONDS, Task
from busmon.simulator.roles import ROLES
from busmon.simulator.totals import Totals
from busmon.simulator.weather import FAIR, Weather

MAX_PROCESSES = 4
_STOP_SECONDS = CLOSE_SECONDS + 5
_POLL_SECONDS = 0.5

# Not the working directory: a file there must not shadow a module.
_CREW = (sys.executable, "-P", "-m", "busmon.simulator.crew")


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of the platform: `steps` of each agent; confirmed envelopes and samples of all agents."""

    steps: int = 0
    envelopes: int = 0
    samples: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan of a simulation; the same plan gives the same totals.

    Attributes:
        agents: how many, over up to 4 processes.
        rate: steps a second of each agent; the busiest do a task in nine of ten. A task is about 25 instrument calls.
        seconds: times `rate` it is the number of steps of each agent; 0 goes on until KeyboardInterrupt.
        seed: what happens to the agents.
        weather: what happens to all of them.
    """

    agents: int = 6
    rate: float = 20.0
    seconds: float = 0.0
    seed: int = 1
    weather: Weather = FAIR

    def tasks(self) -> Iterator[Task]:
        """Divide the plan into the tasks of its processes."""
        steps = max(1, round(self.rate * self.seconds)) if self.seconds else None
        processes = min(self.agents, MAX_PROCESSES)
        for first in range(processes):
            yield Task(tuple(range(first, self.agents, processes)), self.rate, steps, self.seed, self.weather)


def run(
    settings: Settings,
    plan: Plan,
    totals: Path | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Totals:
    """Simulate, and account for it.

    Args:
        settings: the broker and the exchange; agents take the others that concern them, too.
        plan: what to simulate.
        totals: where to write the totals as JSON, as `busmon.simulator.totals` describes.
        progress: called every now and then.

    Raises:
        CatalogueError: a catalogue file is wrong.
        BusError: the broker can't be reached or refuses, as the first envelope finds.
        DemoError: an agent process failed.
    """
    Catalogue.load(settings.catalogue)
    together = Totals(envelopes=_greet(settings))
    with ExitStack() as stack:
        crews = [stack.enter_context(_Process(task, settings)) for task in plan.tasks()]
        try:
            _follow(crews, progress)
        except KeyboardInterrupt:
            for crew in crews:
                crew.stop()
            _follow(crews, progress, _STOP_SECONDS)
        for crew in crews:
            together.merge(crew.result())
    if totals is not None:
        together.write(totals)
    return together


def _greet(settings: Settings) -> int:
    """Publish one envelope, so that a broker that can't be used is known before any agent starts; returns 1.

    It is a farewell in the first agent's name: of whoever said it nothing is counted, and nobody is missed later.
    """
    origin = new_origin(ROLES[0].name)
    publisher = ConfirmedPublisher(settings.amqp_url, origin.source)
    outbox = Outbox(origin, settings.exchange, publisher, settings.publish_buffer_bytes)
    try:
        outbox.put(farewell(origin, time()))
        outbox.send()
        outbox.settle()
    finally:
        publisher.close()
    return 1


class _Process:
    """A crew's process; as a context manager it is gone afterwards."""

    def __init__(self, task: Task, settings: Settings) -> None:
        self.progress = Progress()
        self._totals: Totals | None = None
        self._unread = b""
        # In a process group of its own, so that a terminal's Ctrl-C reaches the parent alone, which stops it in order.
        self._process = subprocess.Popen(  # noqa: S603 - this program
            _CREW,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **settings.environment()},
            process_group=0,
            bufsize=0,
        )
        self._stdin = cast("IO[bytes]", self._process.stdin)
        self._stdout = cast("IO[bytes]", self._process.stdout)
        with suppress(BrokenPipeError):  # it failed to start, as `result` will say
            self._stdin.write(orjson.dumps(asdict(task)) + b"\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        with self._process:
            if self._totals is None:
                self._process.kill()

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the process reports or ends."""
        return self._stdout.fileno()

    def stop(self) -> None:
        """Ask the process to end its agents in order."""
        self._stdin.close()

    def read(self) -> bool:
        """Take in what it said; False at its end."""
        said = os.read(self.fileno(), 1 << 20)
        *lines, self._unread = (self._unread + said).split(b"\n")
        for line in map(orjson.loads, lines):
            if "totals" in line:
                self._totals = Totals(**line["totals"])
            else:
                self.progress = Progress(**line)
        return bool(said)

    def result(self) -> Totals:
        """Return the totals of the process.

        Raises:
            DemoError: it ended without any.
        """
        if self._totals is None:
            raise DemoError(f"a process of simulated agents ended with status {self._process.wait()}")
        return self._totals


def _follow(crews: Sequence[_Process], progress: Callable[[Progress], None], seconds: float = inf) -> None:
    """Read what the crews say until all have ended.

    Raises:
        DemoError: one has not ended after so many seconds, or has failed.
    """
    deadline = monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for crew in crews:
            selector.register(crew, selectors.EVENT_READ)
        while left := selector.get_map():
            if monotonic() > deadline:
                raise DemoError(f"{len(left)} processes of simulated agents don't end")
            for crew in _ready(selector):
                if not crew.read():
                    selector.unregister(crew)
                    crew.result()
            progress(_together(crew.progress for crew in crews))


def _ready(selector: selectors.BaseSelector) -> Iterator[_Process]:
    for key, _ in selector.select(_POLL_SECONDS):
        yield cast("_Process", key.fileobj)


def _together(parts: Iterable[Progress]) -> Progress:
    steps, envelopes, samples = zip(*map(astuple, parts), strict=True)
    return Progress(min(steps), sum(envelopes), sum(samples))
