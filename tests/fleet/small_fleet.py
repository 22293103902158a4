"""A real supervisor, in a process of its own, over small children; and what a test needs to watch and end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from busmon import logs, status
from busmon.errors import BusmonError
from busmon.fleet.supervisor import parent, process, supervisor
from busmon.fleet.supervisor.directory import hold, prepare
from busmon.fleet.supervisor.process import FleetProcess, Inheritance
from busmon.settings import Settings
from tests.patience import PATIENCE_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping

CHILD = str(Path(__file__).with_name("small_child.py"))


class Note(NamedTuple):
    """A line of the children's journal."""

    at: float
    name: str
    pid: int
    what: str


class SmallFleet:
    """A supervisor process.

    Args:
        directory: of the test's own.
        behaviours: of each child, by name; see `small_child.py`. One named `missing` can't even be started.
    """

    def __init__(
        self,
        directory: Path,
        behaviours: Mapping[str, str] | None = None,
        *,
        drain_seconds: float = 30.0,
        beat_timeout_seconds: float = 60.0,
        terminal: int | None = None,
    ) -> None:
        self.registry_dir = directory / "registry"
        self.catalogue = directory / "catalogue.toml"
        self.catalogue.touch()
        self._journal = directory / "journal"
        self._log = directory / "log"
        plan = {
            "registry_dir": str(self.registry_dir),
            "catalogue": str(self.catalogue),
            "journal": str(self._journal),
            "behaviours": {"worker-0": "good", "worker-1": "good", "exporter": "good"} | dict(behaviours or {}),
            "drain_seconds": drain_seconds,
            "beat_timeout_seconds": beat_timeout_seconds,
        }
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, __file__, json.dumps(plan)],
                stdin=subprocess.DEVNULL,
                stderr=log if terminal is None else terminal,
                start_new_session=True,
            )

    def notes(self, what: str, name: str | None = None) -> list[Note]:
        """Read the notes of the children so far."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        every = (Note(float(at), name, int(pid), rest) for at, name, pid, rest in (line.split() for line in lines))
        return [note for note in every if note.what == what and name in (None, note.name)]

    def started(self, name: str, times: int = 1) -> Note:
        """The note of this child's start, for the n-th time, as soon as it is there."""
        return wait_until(lambda: self.notes("started", name)[times - 1 :])[0]

    def all_started(self) -> None:
        """Wait until each child runs."""
        for name in ("worker-0", "worker-1", "exporter"):
            self.started(name)

    def supervisor(self) -> status.SupervisorStatus:
        """Read the supervisor's last status."""
        return wait_until(lambda: status.read(self.registry_dir).supervisor)

    def beaten_after(self, at: float) -> float:
        """When the supervisor beat, for the first time after that."""
        return wait_until(lambda: (beat_at := self.supervisor().beat_at) > at and beat_at)

    def log(self) -> str:
        """Read the supervisor's log."""
        return self._log.read_text()

    def tell(self, number: signal.Signals) -> None:
        """Send the supervisor a signal."""
        self.process.send_signal(number)

    def ended(self) -> int:
        """The supervisor's exit status, as soon as it has ended."""
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        """Kill what is left of it, children first noted included."""
        self.process.kill()
        self.process.wait()
        for note in self.notes("started"):
            if is_alive(note.pid):
                with suppress(ProcessLookupError):
                    os.kill(note.pid, signal.SIGKILL)
        wait_until(lambda: not any(is_alive(note.pid) for note in self.notes("started")))


def is_alive(pid: int) -> bool:
    """Tell whether one of our processes runs; a zombie doesn't."""
    try:
        command, fields = (Path(f"/proc/{pid}/{name}").read_text() for name in ("cmdline", "stat"))
    except OSError:
        return False
    return CHILD in command and fields.rpartition(")")[2].split()[0] != "Z"


def main(plan: str) -> int:
    """The supervisor's process."""
    given = json.loads(plan)
    settings = Settings(
        registry_dir=Path(given["registry_dir"]),
        catalogue=(Path(given["catalogue"]),),
        beat_timeout_seconds=given["beat_timeout_seconds"],
        log_format="json",
    )
    logs.configure(settings, "supervisor")
    supervisor.BEAT_SECONDS = 0.2
    process.PROVEN_SECONDS = 3.0

    def child(name: str, behaviour: str) -> FleetProcess:
        if behaviour == "missing":
            return FleetProcess(name, ["/nonexistent/busmon"])
        return FleetProcess(name, [sys.executable, CHILD, given["journal"], given["registry_dir"], name, behaviour])

    children = [child(name, behaviour) for name, behaviour in given["behaviours"].items()]
    try:
        prepare(settings)
        with hold(settings.registry_dir) as lock, parent.lifeline() as lifeline:
            inheritance = Inheritance(settings.environment(), lifeline, lock)
            return supervisor.Supervisor(
                settings, children[:-1], children[-1], inheritance, given["drain_seconds"]
            ).run()
    except BusmonError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
