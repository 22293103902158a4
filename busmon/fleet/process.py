"""One place in the fleet, and the process that fills it: started, heard, told, and replaced with growing waits.

The supervisor's loop owns all of them; nothing here waits, but for `end`.
"""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random

from busmon.errors import UserError

PROVEN_SECONDS = 10.0
"""A process that lived for so long didn't die of its start; its replacement waits no longer than the first one did."""

START_SECONDS = 30.0
"""What a new process may take until it is first heard from, if the beat's timeout is shorter."""

_WAITS = wait_exponential(multiplier=0.1, max=10.0) + wait_random(0, 0.1)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What every child is given by its supervisor.

    Attributes:
        lifeline: the child's standard input, which ends with the supervisor; see `parent.py`.
        lock: the descriptor that holds the registry directory for the fleet, kept open by whoever is left of it.
    """

    environment: Mapping[str, str]
    lifeline: int
    lock: int


class Child:
    """One place.

    Args:
        name: as of its status file, `worker-<number>`, or `exporter`.
        argv: what is run.
    """

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self.name = name
        self.due = 0.0
        self.silent_seconds = 0.0
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._beat_at: float | None = None
        self._deaths = RetryCallState(Retrying(), None, (), {})
        self._refused = False

    @property
    def key(self) -> str:
        """What its restarts are counted under: a worker's number, or `exporter`."""
        return self.name.removeprefix("worker-")

    @property
    def pid(self) -> int | None:
        """The running process; None between two."""
        return self._process.pid if self._process else None

    @property
    def refuses(self) -> bool:
        """Whether its last process ended of how it is set up, and the present one, if any, hasn't proven better."""
        return self._refused and not (self._process and time.monotonic() - self._started >= PROVEN_SECONDS)

    def start(self, inheritance: Inheritance) -> None:
        """Run the next process.

        Raises:
            OSError: the system can't start one now; the next attempt is due after a wait.
        """
        self.silent_seconds, self._beat_at, self._started = 0.0, None, time.monotonic()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the supervisor's own, never a user's text
                self._argv,
                env=inheritance.environment,
                stdin=inheritance.lifeline,
                pass_fds=(inheritance.lock,),
                # A terminal's Ctrl-C is for the supervisor alone, which then tells the children in their order.
                process_group=0,
            )
        except OSError:
            self._schedule()
            raise

    def reap(self) -> int | None:
        """The status of a process that has ended since the last look, negative for a signal; the next is then due."""
        status = self._process.poll() if self._process else None
        if status is not None:
            self._process = None
            self._refused = status == UserError.exit_status
            self._schedule()
        return status

    def listen(self, beat_at: float | None, elapsed_seconds: float) -> None:
        """Note when the process last beat by its own clock, and how long it may have been silent since the last look.

        A beat counts by being another than the last, not by its age, which a clock that is set would change.
        """
        self.silent_seconds = self.silent_seconds + elapsed_seconds if beat_at == self._beat_at else 0.0
        self._beat_at = beat_at

    def hangs(self, timeout_seconds: float) -> bool:
        """Whether the process runs and has been silent for too long."""
        patience = timeout_seconds if self._beat_at is not None else max(timeout_seconds, START_SECONDS)
        return self._process is not None and self.silent_seconds > patience

    def tell(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        if self._process:
            self._process.send_signal(number)

    def end(self, seconds: float) -> bool:
        """Kill the process and wait; whether it has ended."""
        if self._process:
            self._process.kill()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
        return True

    def _schedule(self) -> None:
        """The next process is due after a wait that grows with each one that died of its start."""
        now = time.monotonic()
        if now - self._started >= PROVEN_SECONDS:
            self._deaths.attempt_number = 1
        self.due = now + _WAITS(self._deaths)
        self._deaths.attempt_number += 1
