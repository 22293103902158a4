"""The supervisor: one loop that starts workers and exporter, replaces dead or hung processes, and ends all in order.

Signals only queue up for the loop (`signals.py`). A child is replaced after any death. Exit status 2 is a user's
mistake, which the child has reported in one line. At the child's first start this status stops the fleet. Later the
other children continue and the child is retried, since a file that is broken meanwhile must not stop the counting. Main
thread of its own process.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence

import structlog

from busmon import status
from busmon.catalogue import Catalogue
from busmon.errors import CatalogueError
from busmon.fleet.signals import Inbox, inbox
from busmon.fleet.supervisor.process import FleetProcess, Inheritance
from busmon.settings import Settings
from busmon.status import SupervisorStatus

log = structlog.get_logger(__name__)

BEAT_SECONDS = 1.0
DRAIN_SECONDS = 10.0
"""How long the children may take to end; workers promise to take half."""

_TURN_SECONDS = 0.5
"""The exporter's least time to end, even if the workers took all of `DRAIN_SECONDS`."""

_KILLED_SECONDS = 2.0
_KILL_AT_INTERRUPTS = 2
_INTERRUPTED = 128 + signal.SIGINT


class Supervisor:
    """The supervisor's loop.

    Args:
        settings: the fleet's.
        workers: end first.
        exporter: starts before the workers and ends after them, so that a last scrape sees all counts.
        inheritance: given to each child.
        drain_seconds: how long the children may take to end.
    """

    def __init__(
        self,
        settings: Settings,
        workers: Sequence[FleetProcess],
        exporter: FleetProcess,
        inheritance: Inheritance,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        self._settings = settings
        self._workers = workers
        self._exporter = exporter
        self._children = [exporter, *workers]
        self._inheritance = inheritance
        self._drain_seconds = drain_seconds
        self._on_terminal = sys.stderr.isatty()
        self._interrupts = 0
        self._stopping = False
        self._exit_status = 0
        self._beaten_at = time.monotonic()
        self._status_written = True
        self._status = SupervisorStatus(
            pid=os.getpid(),
            started_at=time.time(),
            workers=len(workers),
            restarts={child.key: 0 for child in self._children},
            config_reloads={"success": 0, "failure": 0},
        )

    def run(self) -> int:
        """Supervise until the fleet is told to stop; return the exit status."""
        with inbox(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD) as incoming:
            self._write_status()
            self._keep_all()
            while not self._stopping:
                self._attend(incoming)
                self._keep_all()
            self._drain(incoming)
        status.remove(self._settings.registry_dir, self._status)
        log.info("supervisor.stopped", exit_status=self._exit_status)
        return self._exit_status

    def _keep_all(self) -> None:
        """Start a process in every empty place that is due."""
        now = time.monotonic()
        for child in self._children:
            self._reap(child)
            if child.pid is None and child.due <= now and not self._stopping:
                self._start(child)

    def _reap(self, child: FleetProcess) -> None:
        pid, exit_status = child.pid, child.reap()
        if exit_status is None:
            return
        if self._stopping:
            log.info("supervisor.child_ended", child=child.name, pid=pid, **_ending(exit_status))
            return
        if child.refuses:
            log.error("supervisor.child_refused", child=child.name, pid=pid)
        else:
            log.warning("supervisor.child_died", child=child.name, pid=pid, **_ending(exit_status))
        if child.refuses and not self._status.restarts[child.key]:
            self._stop(f"{child.name} can't run as it is set up", exit_status)
            return
        self._status.restarts[child.key] += 1
        self._write_status()

    def _start(self, child: FleetProcess) -> None:
        try:
            child.start(self._inheritance)
        except OSError as error:
            log.warning("supervisor.child_not_started", child=child.name, cause=error.strerror)
        else:
            log.info("supervisor.child_started", child=child.name, pid=child.pid)

    def _attend(self, incoming: Inbox) -> None:
        """Wait for signals until the next start or beat is due, and obey each signal."""
        starts = [child.due for child in self._children if child.pid is None and not self._stopping]
        until = min([self._beaten_at + BEAT_SECONDS, *starts])
        for number in incoming.wait(max(0.0, until - time.monotonic())):
            self._obey(number)
        if time.monotonic() >= self._beaten_at + BEAT_SECONDS:
            self._beat()

    def _obey(self, number: signal.Signals) -> None:
        if number == signal.SIGHUP and not self._terminal_closed():
            self._reload()
        elif number != signal.SIGCHLD:
            self._interrupts += number == signal.SIGINT
            self._stop(number.name)

    def _terminal_closed(self) -> bool:
        """Return whether SIGHUP means that the terminal of a fleet that was started by hand is closed."""
        return self._on_terminal and not sys.stderr.isatty()

    def _stop(self, cause: str, exit_status: int = 0) -> None:
        if not self._stopping:
            log.info("supervisor.draining", cause=cause)
            self._stopping, self._exit_status = True, exit_status
            self._status.stopping = True
            self._write_status()

    def _reload(self) -> None:
        """Reload the catalogue in each child, if the catalogue is valid.

        A child that doesn't handle SIGHUP yet dies of it, and its replacement reads the new catalogue.
        """
        try:
            Catalogue.load(self._settings.catalogue)
        except CatalogueError as error:
            log.warning("supervisor.reload_refused", cause=str(error))
            self._status.config_reloads["failure"] += 1
        else:
            log.info("supervisor.reloaded")
            self._status.config_reloads["success"] += 1
            for child in self._children:
                child.tell(signal.SIGHUP)
        self._write_status()

    def _beat(self) -> None:
        """Write the supervisor's own beat, and read the workers' beats.

        Silence adds up only while this loop turns, so no child is killed after the machine slept or the supervisor was
        stopped. If even the supervisor can't write its status (a full disk), silence proves nothing.
        """
        now = time.monotonic()
        elapsed, self._beaten_at = min(now - self._beaten_at, 2 * BEAT_SECONDS), now
        self._write_status()
        beats: dict[int | None, float] = {
            worker.pid: worker.beat_at for worker in status.read(self._settings.registry_dir).workers
        }
        for child in self._workers:
            child.listen(beats.get(child.pid), elapsed)
            if child.hangs(self._settings.beat_timeout_seconds) and self._status_written and not self._stopping:
                seconds = round(child.silent_seconds, 1)
                log.error("supervisor.child_hung", child=child.name, pid=child.pid, silent_seconds=seconds)
                child.tell(signal.SIGKILL)

    def _write_status(self) -> None:
        self._status.beat_at = time.time()
        self._status.refusing = [child.name for child in self._children if child.refuses]
        try:
            status.write(self._settings.registry_dir, self._status)
        except OSError as error:
            if self._status_written:
                log.warning("supervisor.status_not_written", cause=error.strerror)
            self._status_written = False
        else:
            self._status_written = True

    def _drain(self, incoming: Inbox) -> None:
        """End the workers, then the exporter; kill a child that takes too long, and all at a second interrupt."""
        deadline = time.monotonic() + self._drain_seconds
        for children in (self._workers, [self._exporter]):
            for child in children:
                child.tell(signal.SIGTERM)
            until = max(deadline, time.monotonic() + _TURN_SECONDS)
            while self._any_left(children) and time.monotonic() < until and self._interrupts < _KILL_AT_INTERRUPTS:
                self._attend(incoming)
        if self._interrupts >= _KILL_AT_INTERRUPTS:
            self._exit_status = _INTERRUPTED
        for child in self._children:
            self._kill(child)

    def _any_left(self, children: Sequence[FleetProcess]) -> bool:
        for child in children:
            self._reap(child)
        return any(child.pid is not None for child in children)

    def _kill(self, child: FleetProcess) -> None:
        if child.pid is not None:
            log.warning("supervisor.child_killed", child=child.name, pid=child.pid)
            if not child.end(_KILLED_SECONDS):
                log.error("supervisor.child_left", child=child.name, pid=child.pid)


def _ending(exit_status: int) -> dict[str, int | str | None]:
    return {"exit_status": exit_status} if exit_status >= 0 else {"signal": signal.strsignal(-exit_status)}
