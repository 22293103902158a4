"""The processes under the soak: `busmon up` with its children, and the publishers.

Each is started with the soak's lifeline as standard input, so it ends when the soak does, however that ended; and with
the run's directory in its environment, by which those that are left over are found. Main thread.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN_VARIABLE = "BUSMON_SOAK_DIRECTORY"
END_SECONDS = 120.0


class Process:
    """One program, started again and again."""

    def __init__(
        self, module: str, arguments: Sequence[str], directory: Path, lifeline: int, environment: Mapping[str, str]
    ) -> None:
        self._argv = [sys.executable, "-P", "-m", module, *arguments]
        self._directory = directory
        self._lifeline = lifeline
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")},
            "PYTHONPATH": str(ROOT),
            RUN_VARIABLE: str(directory),
            **environment,
        }
        self.log = directory / f"{arguments[0] if arguments else 'fleet'}.log"
        self.starts = 0

    def start(self) -> None:
        """Run it; its output is appended to its log."""
        self.starts += 1
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                env=self._environment,
                cwd=self._directory,
                stdin=self._lifeline,
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        """The process's id, of the last one if none runs."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """SIGTERM, once the process has come so far that it can end in order."""
        deadline = time.monotonic() + END_SECONDS
        while not _catches(self.pid, signal.SIGTERM) and self.status is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self._process.terminate()

    def wait(self, seconds: float = END_SECONDS) -> int | None:
        """The exit status; None if it doesn't end in time."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(seconds)
        return None


class Fleet(Process):
    """`busmon up`."""

    def __init__(self, directory: Path, lifeline: int, environment: Mapping[str, str]) -> None:
        super().__init__("tests.soak.up", (), directory, lifeline, environment)

    def children(self) -> dict[str, int]:
        """The processes of the supervisor's that run, by what they were started as: `0,2` for those shards' worker."""
        found = {}
        with suppress(OSError):
            for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
                argv = command(int(pid))
                if "worker" in argv:
                    found[argv[argv.index("--shards") + 1]] = int(pid)
                elif "exporter" in argv:
                    found["exporter"] = int(pid)
        return found

    def workers(self) -> dict[str, int]:
        """The workers among them."""
        return {name: pid for name, pid in self.children().items() if name != "exporter"}


def _catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler for the signal; `SigCgt` in proc_pid_status(5)."""
    with suppress(OSError):
        fields = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return bool(int(fields["SigCgt"], 16) >> (number - 1) & 1)
    return False


def command(pid: int) -> list[str]:
    """Read the command line of a process; empty if the process has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


def end(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def left_behind(directory: Path, seconds: float) -> dict[int, list[str]]:
    """The processes of this run that don't end within so long."""
    deadline = time.monotonic() + seconds
    while (found := dict(of_run(directory))) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def of_run(directory: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the processes with this directory, of a run or a host, in their environment, and their command lines."""
    mark = str(directory).encode()  # the broker's processes have it as their home
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes():
                yield int(process.name), command(int(process.name))
