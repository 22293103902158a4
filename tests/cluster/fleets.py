"""The fleets of a trial: `busmon up` on hosts of the run's network, alone or as one of several replicated hosts."""

import signal
from pathlib import Path

from tests.cluster.network import Host
from tests.fleet import replicated
from tests.fleet.real_fleet import RealFleet


class NetworkFleet(RealFleet):
    """A fleet on a host of the network.

    Attributes:
        host: runs the fleet.
    """

    def __init__(self, host: Host, directory: Path, amqp_url: str, **environment: str) -> None:
        super().__init__(directory, amqp_url, python=None, **environment)
        self.host = host

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a `busmon` command on the host."""
        return self.host.command(*super().command(*arguments))

    def get(self, path: str) -> tuple[int, bytes]:
        """Fetch a page of the exporter from the host."""
        return self.host.call(super().get, path)


class ReplicatedFleet(NetworkFleet, replicated.Host):
    """One host of a replicated fleet, which may have the faults of a node."""

    def __init__(self, host: Host, directory: Path, amqp_url: str, **environment: str) -> None:
        super().__init__(host, directory, amqp_url, **replicated.settings_of(f"host{host.number}"), **environment)

    def kill(self) -> None:
        """Kill all of the host's processes, and delete the directory."""
        self.destroy()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to each process of the host."""
        self.signal_all(number)

    def wait(self) -> None:
        """Wait for the supervisor's end."""
        self.process.wait()
