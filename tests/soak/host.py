"""A host of the soak: `busmon up` with a directory, an address and a log of its own.

The directory holds the host's registry directory and all that is kept of a run. Main thread, but for scrapes.
"""

import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path

from busmon.demo.rabbitmq import LOOPBACK, free_ports
from tests.soak.processes import Fleet, end, of_run
from tests.soak.scrape import Scrape, fetch

START_SECONDS = 180.0


class Host:
    """One host.

    Args:
        directory: the host's; its name is the host's name.
        lifeline: ends the host's processes with the soak.
        environment: settings of the fleet, without those that are the host's own.

    Attributes:
        is_replicated: its shards are copies of logs, so its registry directory may be lost.
        address: the exporter's, the same over its restarts.
        fleet: the host's processes.
    """

    def __init__(self, directory: Path, lifeline: int, environment: Mapping[str, str]) -> None:
        directory.mkdir(exist_ok=True)
        self.name = directory.name
        self.directory = directory
        self.registry_dir = directory / "registry"
        self.is_replicated = environment.get("BUSMON_REPLICATION") == "stream"
        self.address = f"{LOOPBACK}:{free_ports(1)[0]}"
        own = {
            "BUSMON_HOST_NAME": self.name,
            "BUSMON_LISTEN": self.address,
            "BUSMON_REGISTRY_DIR": str(self.registry_dir),
        }
        self.fleet = Fleet(directory, lifeline, {**environment, **own})

    def scrape(self) -> Scrape:
        """Return a scrape, the first or the first after the last fault.

        Raises:
            TimeoutError: there is none for three minutes.
        """
        return Scrape.parse(self.fetch())

    def fetch(self) -> str:
        """Return the text of a scrape, as of `scrape`.

        Raises:
            TimeoutError: there is none for three minutes.
        """
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return fetch(self.address)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"no scrape of {self.name} ({error}); see {self.fleet.log}") from error
                time.sleep(0.1)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the host's processes, the supervisor first."""
        for pid in [self.fleet.pid, *self.fleet.children().values()]:
            end(pid, number)

    def destroy(self) -> None:
        """Kill the host's processes at once, and delete the registry directory.

        The processes of a supervisor that was killed a moment ago are the host's too. One that were left would have the
        address, and without a directory no fleet waits for it.
        """
        self.signal_all(signal.SIGKILL)
        self.fleet.kill()
        while left := [*of_run(self.registry_dir)]:
            for pid, _ in left:
                end(pid, signal.SIGKILL)
            time.sleep(0.001)
        shutil.rmtree(self.registry_dir, ignore_errors=True)
