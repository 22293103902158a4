"""The times of a replicated fleet's hosts: a start, the agreement of two exporters, and a takeover.

    .venv/bin/python benchmarks/hosts.py [start] [agree] [takeover] [--series 100000] [--updates 5] [--rounds 5]

Each host is `busmon up` with a registry directory of its own, on a private RabbitMQ node with four shards.

- `start`: from the command to the first answer of `/metrics`, which has every series. Before it, one host makes the
  series and updates each of them some times. `intact` begins in the directory of a host that was killed, `empty`
  without any file.
- `agree`: from the first answer of either exporter that has a round of envelopes to the first answers of both.
- `takeover`: from the kill of all processes of the host that owns most shards to the first answer of the other
  exporter that has an envelope of each source, published after the kill. The killed host loses its directory.

Exporters are asked in turn without a pause. The broker runs on the same cores.
"""

import argparse
import http.client
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import backlog
import children
import entry
import orjson
import pika

from busmon import status
from busmon.bus.topology import topology as topologies
from busmon.bus.topology.declare import declare
from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import free_ports
from busmon.settings import Settings, load

FAMILIES = 10
ROWS = 100
SOURCES = 64
ROUND = "round_total"
PATIENCE_SECONDS = 400.0
LOOK_SECONDS = 0.05
OK = 200

Envelopes = Iterator[tuple[bytes, pika.BasicProperties]]


class Host:
    """One host; a context manager that stops it.

    Attributes:
        registry_dir: the host's, which may be deleted while it is stopped.
    """

    def __init__(self, settings: Settings, scratch: Path, name: str) -> None:
        (self._port,) = free_ports(1)
        self.registry_dir = scratch / name
        self._log = scratch / f"{name}.log"
        self._environment = {
            **os.environ,
            **settings.environment(),
            "BUSMON_REGISTRY_DIR": str(self.registry_dir),
            "BUSMON_HOST_NAME": name,
            "BUSMON_LISTEN": f"127.0.0.1:{self._port}",
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def start(self) -> None:
        """Start the host."""
        command = [sys.executable, "-P", "-m", "busmon", "up"]
        with self._log.open("ab") as log:
            self._process = children.start(command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """Kill the host's processes at once."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (self._process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def scrape(self) -> bytes:
        """Return the text of `/metrics`; empty while the host doesn't serve it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            connection.request("GET", "/metrics")
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            return b""
        finally:
            connection.close()
        return body if answer.status == OK else b""

    def value(self, name: str) -> float:
        """Return the sum of a family's samples."""
        found = re.findall(rb"^" + name.encode() + rb"(?:\{[^\n]*\})? (\S+)", self.scrape(), re.MULTILINE)
        return sum(map(float, found))

    def replica_states(self) -> list[str]:
        """Return the states of the replicas, as the workers last told."""
        shards = [shard for worker in status.read(self.registry_dir).workers for shard in worker.shards]
        return [shard.replica.state for shard in shards if shard.replica is not None]

    def is_current(self) -> bool:
        """Return whether each replica is at its log's end."""
        states = self.replica_states()
        return len(states) > 0 and {*states} <= {"owning", "following"}


def wait_until(is_done: Callable[[], object], what: str) -> float:
    """Wait for a condition; return the time when it was seen."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_done():
        if time.monotonic() > deadline:
            sys.exit(f"hosts.py: waited {PATIENCE_SECONDS:g} s for {what}")
        time.sleep(LOOK_SECONDS)
    return time.monotonic()


def body_of(source: str, name: str, rows: Sequence[Sequence[object]]) -> tuple[bytes, pika.BasicProperties]:
    """Make an envelope with one table."""
    table = {"name": name, "type": "counter", "labels": ["number"], "rows": rows}
    body = orjson.dumps({"v": 1, "source": source, "agent": "host", "ts": time.time(), "tables": [table]})
    properties = pika.BasicProperties(
        "application/json", None, {"source": source}, 2, message_id=os.urandom(12).hex(), app_id="host"
    )
    return body, properties


def make_series(count: int) -> Envelopes:
    """Make envelopes that add 1 to each of so many series, always of the same shards."""
    for number in range(0, count, ROWS):
        rows = [[str(each), 1] for each in range(number, min(number + ROWS, count))]
        family = number // ROWS % FAMILIES
        yield body_of(f"source-{number // ROWS % SOURCES}", f"start_{family}_total", rows)


def make_round() -> Envelopes:
    """Make an envelope of each source."""
    for number in range(SOURCES):
        yield body_of(f"source-{number}", ROUND, [["1", 1]])


def measure_start(settings: Settings, scratch: Path, series: int, updates: int, rounds: int) -> None:
    """Print the times of starts."""
    host, began = Host(settings, scratch, "only"), time.monotonic()
    pattern = re.compile(rb"^start_\d_total\{[^\n]*\} (\S+)", re.MULTILINE)

    def values() -> list[float]:
        return [*map(float, pattern.findall(host.scrape()))]

    with host:
        for _ in range(1 + updates):
            backlog.publish(settings.amqp_url, settings.exchange, make_series(series))
        wait_until(lambda: sum(values()) == series * (1 + updates), "the series to be counted")
        print(f"{series:,} series, updated {updates} times, in {time.monotonic() - began:.0f} s", flush=True)
        taken: dict[str, list[float]] = {"intact": [], "empty": []}
        for kind in [*taken] * rounds:
            host.kill()
            if kind == "empty":
                shutil.rmtree(host.registry_dir)
            began = time.monotonic()
            host.start()
            taken[kind].append(wait_until(host.scrape, "/metrics") - began)
            found = values()
            if len(found) != series or sum(found) != series * (1 + updates):
                sys.exit(f"hosts.py: {len(found):,} series with a total of {sum(found):,.0f} after the start")
            wait_until(host.is_current, "the logs' ends")
        for kind, seconds in taken.items():
            report(f"start, {kind}", seconds)


def measure_agreement(settings: Settings, hosts: Sequence[Host], rounds: int) -> None:
    """Print the times until both exporters show the same."""
    base, taken = hosts[0].value(ROUND), []
    for number in range(1, 5 * rounds + 1):
        expected = base + number * SOURCES
        backlog.publish(settings.amqp_url, settings.exchange, make_round())
        shown: dict[Host, float] = {}
        while len(shown) < len(hosts):
            for host in hosts:
                if host not in shown and host.value(ROUND) >= expected:
                    shown[host] = time.monotonic()
        taken.append(max(shown.values()) - min(shown.values()))
    report("agree", taken)


def measure_takeover(settings: Settings, hosts: Sequence[Host], rounds: int) -> None:
    """Print the times until the other host counts."""
    taken = []
    for _ in range(rounds):
        wait_until(lambda: all(host.is_current() for host in hosts), "both hosts at the logs' ends")
        dying, other = sorted(hosts, key=lambda host: -host.replica_states().count("owning"))
        expected = other.value(ROUND) + SOURCES
        dying.kill()
        began = time.monotonic()
        backlog.publish(settings.amqp_url, settings.exchange, make_round())
        while other.value(ROUND) < expected:
            if time.monotonic() - began > PATIENCE_SECONDS:
                sys.exit("hosts.py: the other host doesn't count")
        taken.append(time.monotonic() - began)
        shutil.rmtree(dying.registry_dir)
        dying.start()
    report("takeover", taken)


def report(name: str, seconds: Sequence[float]) -> None:
    """Print one line of figures."""
    print(f"{name:<16}{len(seconds):>5}{statistics.median(seconds):>10.2f} s{max(seconds):>10.2f} s", flush=True)


def declare_topology(amqp_url: str) -> Settings:
    """Declare the built-in topology with its logs; return the settings of the hosts."""
    settings = load(
        {
            "amqp_url": amqp_url,
            "replication": "stream",
            "max_label_values": "1000000",
            "max_series_per_family": "1000000",
        }
    )
    declare(topologies.load(settings.topology, settings.exchange, settings.replication), amqp_url, None, {})
    return settings


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["start", "agree", "takeover"], metavar="PART")
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory,
        PrivateNode(Path(directory) / "node") as node,
    ):
        scratch, settings = Path(directory), declare_topology(node.amqp_url)
        print(f"{'':16}{'runs':>5}{'median':>12}{'max':>12}")
        with ExitStack() as stack:
            if {"agree", "takeover"} & {*args.parts}:
                hosts = [stack.enter_context(Host(settings, scratch, name)) for name in ("first", "second")]
                wait_until(lambda: all(host.is_current() for host in hosts), "both hosts")
                if "agree" in args.parts:
                    measure_agreement(settings, hosts, args.rounds)
                if "takeover" in args.parts:
                    measure_takeover(settings, hosts, args.rounds)
        if "start" in args.parts:
            measure_start(settings, scratch, args.series, args.updates, args.rounds)


if __name__ == "__main__":
    entry.run(main)
