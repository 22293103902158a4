"""RabbitMQ nodes that form a cluster, each on a host of the run's network.

A node ends with this process.
"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from busmon.demo import rabbitmq
from busmon.demo.rabbitmq import Address
from tests.cluster.network import Host

AMQP_PORT = 5672
MANAGEMENT_PORT = 15672
PLUGINS = ("rabbitmq_management", "rabbitmq_consistent_hash_exchange")
TICK_SECONDS = int(os.environ.get("NET_TICKTIME", "60"))
"""After so long without a word a node takes another for lost; 60 is RabbitMQ's default."""

BOOT_SECONDS = 240
STOP_SECONDS = 120

_CONFIGURATION = """[
  {{kernel, [{{net_ticktime, {tick_seconds}}}]}},
  {{rabbit, [
    {{tcp_listeners, [{{"{ip}", {amqp_port}}}]}},
    {{loopback_users, []}},
    {{collect_statistics_interval, 1000}},
    {{cluster_nodes, {{[{members}], disc}}}},
    {{cluster_partition_handling, pause_minority}}
  ]}},
  {{rabbitmq_management, [{{tcp_config, [{{ip, "{ip}"}}, {{port, {management_port}}}]}}]}}
].
"""


class Node:
    """A node of a cluster.

    Args:
        host: runs the node.
        directory: of the node's files.
        members: the hosts of the cluster.
        cookie: the cluster's secret.
    """

    def __init__(self, host: Host, directory: Path, members: Sequence[Host], cookie: str) -> None:
        self.host = host
        self.name = _name(host)
        self._directory = directory
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._write_files(members, cookie)

    @property
    def log(self) -> Path:
        """The node's log."""
        return self._directory / "log"

    def start(self) -> None:
        """Start the node; `await_startup` waits for it."""
        if self._epmd is None:
            self._epmd = self._run(rabbitmq.epmd(), "-address", self.host.ip, "-relaxed_command_check")
        self._node = self._run(rabbitmq.script("rabbitmq-server"))

    def await_startup(self) -> None:
        """Wait until the node serves clients."""
        deadline = time.monotonic() + BOOT_SECONDS
        while not self.has_started():
            assert time.monotonic() < deadline, f"{self.name} did not start, see {self.log}"
            time.sleep(0.5)

    def ctl(self, *arguments: str, program: str = "rabbitmqctl") -> str:
        """Run one of RabbitMQ's command lines against the node; returns its output."""
        command = self._command(rabbitmq.script(program), *arguments)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BOOT_SECONDS)
        assert not done.returncode, f"{program} {' '.join(arguments)}: {done.stdout} {done.stderr}"
        return done.stdout

    def signal(self, number: int) -> None:
        """Send a signal to the node itself."""
        assert self._node is not None
        self._node.send_signal(number)

    def kill(self) -> None:
        """Kill the node and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait for the node's end."""
        assert self._node is not None
        self._node.wait(STOP_SECONDS)

    def end(self) -> None:
        """Kill all of the node that still runs."""
        for process in (self._node, self._epmd):
            if process is not None:
                with suppress(ProcessLookupError):
                    process.kill()
                process.wait()

    def has_started(self) -> bool:
        """Tell if the node serves clients."""
        assert self._node is not None
        assert self._node.poll() is None, f"{self.name} ended at its start, see {self.log}"
        command = self._command(rabbitmq.script("rabbitmqctl"), "await_startup", "--timeout", "20")
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _run(self, *arguments: str | Path) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command(*arguments), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _command(self, *arguments: str | Path) -> list[str]:
        variables = (f"{name}={value}" for name, value in self._environment().items())
        return self.host.command("env", "-i", *variables, *arguments)

    def _environment(self) -> dict[str, str]:
        address = Address(self.name, AMQP_PORT, MANAGEMENT_PORT, 25672, 4369)
        return {
            **rabbitmq.environment(self._directory, address),
            "ERL_EPMD_ADDRESS": self.host.ip,
            "ERL_FLAGS": "-start_epmd false",
            "RABBITMQ_USE_LONGNAME": "true",
        }

    def _write_files(self, members: Sequence[Host], cookie: str) -> None:
        self._directory.mkdir(parents=True)
        secret = self._directory / ".erlang.cookie"
        secret.write_text(cookie)
        secret.chmod(0o400)
        (self._directory / "enabled_plugins").write_text(f"[{','.join(PLUGINS)}].\n")
        (self._directory / "rabbitmq.config").write_text(
            _CONFIGURATION.format(
                ip=self.host.ip,
                amqp_port=AMQP_PORT,
                management_port=MANAGEMENT_PORT,
                tick_seconds=TICK_SECONDS,
                members=", ".join(f"'{_name(member)}'" for member in members),
            )
        )
        for empty in ("rabbitmq-env.conf", "inetrc"):
            (self._directory / empty).touch()


@contextmanager
def cluster(hosts: Sequence[Host], directory: Path) -> Iterator[list[Node]]:
    """Run a cluster of a node on each host, whose files are in a directory."""
    cookie = secrets.token_hex(16)
    with ExitStack() as stack:
        nodes = [Node(host, directory / f"node{host.number}", hosts, cookie) for host in hosts]
        for node in nodes:
            stack.callback(node.end)
            node.start()
        for node in nodes:
            node.await_startup()
        yield nodes


def _name(host: Host) -> str:
    return f"rabbit@{host.ip}"
