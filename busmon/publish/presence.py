"""A source's life, published without a line of the program's: that it starts, beats, stops, or was started again.

That a process ended unexpectedly is known from what it left: a file in the agent's spool directory, held under an OS
lock by the process that made it and removed by an orderly end. Whoever finds one that nobody holds counts a restart.
Belongs to the thread that starts and closes a `Telemetry`, but for `beat`.
"""

import os
from contextlib import suppress
from pathlib import Path

from busmon import files
from busmon.publish.batch import LIFECYCLE
from busmon.publish.definitions import Definitions
from busmon.publish.instruments import Counter
from busmon.publish.spool import make_private

HEARTBEAT_SECONDS = 15.0
"""How often a source gives a sign of life: one may be lost and AgentSilent still trust it, and tell within a minute."""

_MARK = ".runs"


class Presence:
    """The life of an agent's source.

    Args:
        definitions: make what it is counted by.
        agent: the agent's name.
        directory: where the agent's runs leave their marks.
    """

    def __init__(self, definitions: Definitions, agent: str, directory: Path) -> None:
        def count(name: str) -> Counter:
            return definitions.counter(name, labelnames=["agent"], domain=LIFECYCLE).labels(agent)

        self._starts, self._stops = count("agent_starts_total"), count("agent_stops_total")
        self._restarts, self._beats = count("agent_restarts_total"), count("agent_heartbeats_total")
        self._directory = directory
        self._mark: tuple[Path, int] | None = None

    def start(self, source: str) -> None:
        """Count a start, and each run before it that has ended unexpectedly."""
        self._starts.inc()
        path = self._directory / f"{source}{_MARK}"
        with suppress(OSError):  # without a mark nobody will know of a restart, and all else goes on
            if died := sum(map(_take_away, self._directory.glob(f"*{_MARK}"))):
                self._restarts.inc(died)
            make_private(path.parent)
            lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
            if files.try_lock(lock):
                self._mark = path, lock

    def beat(self) -> None:
        """Count a sign of life."""
        self._beats.inc()

    def stop(self) -> None:
        """Count an orderly end."""
        self._stops.inc()
        if self._mark is not None:
            path, lock = self._mark
            with suppress(OSError):
                path.unlink()
            os.close(lock)
            self._mark = None

    def start_forked(self, *, is_parent_a_server: bool) -> None:
        """Count the start of a forked child, which leaves no mark: it may end without running exit functions.

        A server that forks its workers itself, as uWSGI does, ends without running Python's exit functions. Its mark
        would be taken for an unexpected end by the next start, so the first worker removes the mark.
        """
        if self._mark is not None:
            path, lock = self._mark
            if is_parent_a_server:
                with suppress(OSError):
                    path.unlink()
            os.close(lock)
            self._mark = None
        self._starts.inc()


def _take_away(path: Path) -> bool:
    """Remove the mark of a run that is over; whether it was one."""
    try:
        lock = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        if not files.try_lock(lock):
            return False
        path.unlink()
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
