"""One place in the fleet and its process: started, watched, signalled, and replaced with backoff.

The supervisor's loop owns all places. Nothing here waits, except `end`.
"""

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tenacity import wait_exponential, wait_random

from busmon.backoff import Backoff
from busmon.errors import UserError

PROVEN_SECONDS = 10.0
"""The age at which a process has proved its start: the backoff for its replacement starts at the shortest wait."""

START_SECONDS = 30.0
"""How long a new process may take until its first beat, if the beat's timeout is shorter."""

_WAITS = wait_exponential(multiplier=0.1, max=10.0) + wait_random(0, 0.1)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The inheritance of every child from its supervisor.

    Attributes:
        lifeline: the child's standard input, which ends with the supervisor; see `parent.py`.
        lock: the descriptor that holds the registry directory for the fleet; every process of the fleet keeps it open.
    """

    environment: Mapping[str, str]
    lifeline: int
    lock: int


class FleetProcess:
    """One place in the fleet.

    Args:
        name: the name in its status file, `worker-<number>`, or `exporter`.
        argv: the command.
    """

    def __init__(self, name: str, argv: Sequence[str]) -> None:
        self.name = name
        self.due = 0.0
        self.silent_seconds = 0.0
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._beat_at: float | None = None
        self._backoff = Backoff(_WAITS)
        self._refused = False

    @property
    def key(self) -> str:
        """Return the name under which its restarts are counted: a worker's number, or `exporter`."""
        return self.name.removeprefix("worker-")

    @property
    def pid(self) -> int | None:
        """Return the id of the running process; None while none runs."""
        return self._process.pid if self._process else None

    @property
    def refuses(self) -> bool:
        """Return whether the last process ended because of its configuration, and no later one has lasted."""
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
                # A terminal's Ctrl-C is for the supervisor alone, which then stops the children in order.
                process_group=0,
            )
        except OSError:
            self._schedule()
            raise

    def reap(self) -> int | None:
        """Return the exit status of an ended process, negative for a signal; plan the next process."""
        status = self._process.poll() if self._process else None
        if status is not None:
            self._process = None
            self._refused = status == UserError.exit_status
            self._schedule()
        return status

    def listen(self, beat_at: float | None, elapsed_seconds: float) -> None:
        """Note the last beat by the process's own clock, and add the time since the last look to its silence.

        A beat counts if it differs from the last one. Its age doesn't count, since a clock that is set would change it.
        """
        self.silent_seconds = self.silent_seconds + elapsed_seconds if beat_at == self._beat_at else 0.0
        self._beat_at = beat_at

    def hangs(self, timeout_seconds: float) -> bool:
        """Return whether the process runs and has been silent for too long."""
        patience = timeout_seconds if self._beat_at is not None else max(timeout_seconds, START_SECONDS)
        return self._process is not None and self.silent_seconds > patience

    def tell(self, number: signal.Signals) -> None:
        """Send the process a signal, if it still runs."""
        if self._process:
            self._process.send_signal(number)

    def end(self, seconds: float) -> bool:
        """Kill the process and wait; return whether it has ended."""
        if self._process:
            self._process.kill()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
        return True

    def _schedule(self) -> None:
        """Plan the next process, after a wait that grows with each process that ended soon after its start."""
        now = time.monotonic()
        if now - self._started >= PROVEN_SECONDS:
            self._backoff.reset()
        self.due = now + self._backoff.next_wait()
