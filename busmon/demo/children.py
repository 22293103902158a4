"""The demo's child processes, and the signals that end it: nothing it started outlives it.

Children run in sessions of their own, so that a terminal's Ctrl-C reaches the demo alone, which stops them in order.
Main thread only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from busmon.errors import DemoError

# Not the working directory: a file there must not shadow a module of the standard library.
BUSMON = (sys.executable, "-P", "-m", "busmon")

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Ctrl-C, SIGTERM and SIGHUP as a KeyboardInterrupt, but never between a process's start and its being known."""

    def __init__(self) -> None:
        self._held = 0
        self._pending = False

    def listen(self) -> None:
        """Take the signals from now on."""
        for number in _ENDING_SIGNALS:
            signal.signal(number, self._take)

    def hold(self) -> None:
        """Ignore all interrupts from now on: the end is under way."""
        self._held += 1

    @contextmanager
    def delay(self) -> Iterator[None]:
        """Delay interrupts until the block's end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._pending and not self._held:
            raise KeyboardInterrupt

    def _take(self, _: int, __: FrameType | None) -> None:
        self._pending = True
        if not self._held:
            raise KeyboardInterrupt


class Child:
    """One `busmon` command.

    Args:
        name: what it is, for a person.
        arguments: of the command.
        environment: what the demo adds to its own.
        log: takes all that it prints.
        lifeline: its standard input, which ends with the demo.
        stop_seconds: what it may take to end in order.
    """

    def __init__(  # noqa: PLR0913 - the demo starts one in one place
        self,
        name: str,
        arguments: tuple[str, ...],
        *,
        environment: Mapping[str, str],
        log: Path,
        lifeline: int,
        stop_seconds: float,
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._log = log
        self._lifeline = lifeline
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Run it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this program with arguments of the demo
                [*BUSMON, *self._arguments],
                env={**os.environ, **self._environment},
                stdin=self._lifeline,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def check(self) -> None:
        """Make sure that it still runs.

        Raises:
            DemoError: it has ended; the line is the last that it said.
        """
        if self.status is not None:
            raise DemoError(f"the {self.name} ended with status {self.status}: {self.last_line()}")

    def stop(self) -> None:
        """End it in order, and what is left of it by force."""
        if self._process is None:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._stop_seconds)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def last_line(self) -> str:
        """Return the last line that the process printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"
