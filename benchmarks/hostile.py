"""What a hostile publisher costs the others: bytes that it sends, delay that they see, memory and scrape time it takes.

    .venv/bin/python benchmarks/hostile.py [--attacks NAME,…] [--seconds 15]

For each attack a fleet of two workers and an exporter runs on a private RabbitMQ node. An honest agent publishes ten
envelopes a second, and the exporter is asked for that agent's total ten times a second; its delay is the time from a
publish to the first answer that counts it. The attack publishes meanwhile, with confirms, as fast as the broker takes
it. Memory is what each process has at most more than before the attack; the scrape is of everything.
"""

import argparse
import gzip
import itertools
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson
import pika

from busmon import status
from busmon.demo.broker import PrivateNode

PROBE_SECONDS = 0.1
START_SECONDS = 60.0
MAX_DELAY_SECONDS, MAX_MORE_BYTES, MAX_MORE_SCRAPE_SECONDS = 5.0, 300e6, 1.0
TOTAL = "agent_starts_total"

Publish = tuple[bytes, pika.BasicProperties]


# -- the attacks ------------------------------------------------------------------------------------------------------


def packed(content: dict[str, Any], source: str, routing: str = "attacker.task") -> tuple[str, Publish]:
    """Make one compressed body of busmon's own format."""
    body = gzip.compress(orjson.dumps({"v": 1, "source": source, "agent": "attacker", **content}))
    headers = {"source": source}
    stated = pika.BasicProperties(
        content_type="application/json", content_encoding="gzip", message_id=f"{source}:1", headers=headers
    )
    return routing, (body, stated)


def wide_histogram() -> Iterator[tuple[str, Publish]]:
    """A metric of the publisher's own with as many labels and bounds as are taken, and values as long."""
    for labels, bounds, length in ((32, 200, 1024), (16, 64, 256)):
        names = [f"label_{number:02}" for number in range(labels)]
        buckets = {str(bound): 1 for bound in range(bounds)} | {"+Inf": 1}
        for number in range(40):
            rows = [
                [
                    *(f"{number}.{row}.{label}".ljust(length, "x") for label in range(labels)),
                    {"buckets": buckets, "sum": 1},
                ]
                for row in range(28)
            ]
            table = {"name": f"wide_{labels}_{number % 4}", "type": "histogram", "labels": names, "rows": rows}
            yield packed({"tables": [table]}, f"wide-{labels}-{number}")


def long_values() -> Iterator[tuple[str, Publish]]:
    """The catalogue's histogram with label values of the greatest length."""
    for number in range(100):
        rows = [[f"{number}.{row}".ljust(1024, "\u20ac"), 0.5] for row in range(100)]
        table = {"name": "task_duration_seconds", "labels": ["agent"], "rows": rows}
        yield packed({"tables": [table]}, f"long-{number}")


def bins() -> Iterator[tuple[str, Publish]]:
    """Summaries with an observation in each bin, and long label values."""
    values = [1.02**power for power in range(-1000, 1300)]
    for number in range(60):
        samples = [
            {"name": "binned", "type": "summary", "labels": {"k": f"{number}.{part}".ljust(256, "y")}, "values": values}
            for part in range(10)
        ]
        yield packed({"samples": samples}, f"bins-{number}")


def shares() -> Iterator[tuple[str, Publish]]:
    """Gauges of ten thousand series, each from many sources."""
    rows = [[str(row), 1] for row in range(5_000)]
    for number in range(300):
        yield packed(
            {"tables": [{"name": "shared", "type": "gauge", "labels": ["k"], "rows": rows}]}, f"shares-{number}"
        )


def sources() -> Iterator[tuple[str, Publish]]:
    """OTLP bodies with thousands of resources, each a source of its own."""
    point = {"asDouble": 1}
    for number in range(60):
        resources = [
            {
                "resource": {
                    "attributes": [{"key": "service.instance.id", "value": {"stringValue": f"{number}-{each}"}}]
                },
                "scopeMetrics": [{"metrics": [{"name": "level", "gauge": {"dataPoints": [point]}}]}],
            }
            for each in range(5_000)
        ]
        body = gzip.compress(orjson.dumps({"resourceMetrics": resources}))
        stated = pika.BasicProperties(content_type="application/json", content_encoding="gzip", headers={"source": "o"})
        yield "otlp_metrics", (body, stated)


def endless_values() -> Iterator[tuple[str, Publish]]:
    """Label values that never come again, in every family of the catalogue that takes some."""
    counters = ("agent_starts_total", "tasks_processed_total")
    for number in range(100):
        tables = [
            {"name": counters[0], "labels": ["agent"], "rows": [[secrets.token_hex(8), 1] for _ in range(5_000)]},
            {
                "name": counters[1],
                "labels": ["agent", "status"],
                "rows": [[secrets.token_hex(8), "success", 1] for _ in range(5_000)],
            },
        ]
        yield packed({"tables": tables}, f"endless-{number}")


def leavers() -> Iterator[tuple[str, Publish]]:
    """One body with thousands of gauges, and very many sources that say they stop."""
    rows = [[str(row), 1] for row in range(9_000)]
    for number in itertools.count():
        if number == 20_000:
            return
        if number % 500 == 0:
            yield packed(
                {"tables": [{"name": "held", "type": "gauge", "labels": ["k"], "rows": rows}]}, f"held-{number}"
            )
        yield packed({"samples": [], "final": True}, f"leaver-{number}")


def invented(name: str, content: dict[str, Any]) -> tuple[str, Publish]:
    """Make one body of a source and an agent that nobody has heard of."""
    source = f"{name}-{secrets.token_hex(8)}"
    body = orjson.dumps({"v": 1, "source": source, "agent": source, **content})
    stated = pika.BasicProperties(message_id=f"{source}:1", app_id=source, headers={"source": source})
    return f"{name}.task", (body, stated)


def invented_agents() -> Iterator[tuple[str, Publish]]:
    """Agents that are heard once, each with a label value of its own."""
    for _ in range(30_000):
        name = secrets.token_hex(8)
        sample = {"name": "agent_starts_total", "labels": {"agent": name}, "value": 1}
        yield invented("crowd", {"samples": [sample]})


def taken_names() -> Iterator[tuple[str, Publish]]:
    """Metrics that no catalogue names, twenty by each of ever new agents."""
    for number in range(5_000):
        samples = [{"name": f"junk_{number}_{each}", "type": "gauge", "value": 1} for each in range(20)]
        yield invented("taker", {"samples": samples})


ATTACKS: dict[str, Callable[[], Iterator[tuple[str, Publish]]]] = {
    "wide histogram": wide_histogram,
    "long label values": long_values,
    "bins of summaries": bins,
    "gauges of sources": shares,
    "sources in OTLP": sources,
    "endless label values": endless_values,
    "leaving sources": leavers,
    "invented agents": invented_agents,
    "taken names": taken_names,
}


# -- the measurement --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Seen:
    """What one attack costs.

    Attributes:
        sent_bytes: in bodies.
        delays: of the honest agent's envelopes, in seconds.
        more_bytes: of the process that grew most.
        scrape_seconds: of all families, before and at worst since.
    """

    sent_bytes: int = 0
    delays: list[float] = field(default_factory=list)
    more_bytes: dict[str, int] = field(default_factory=dict)
    scrape_seconds: list[float] = field(default_factory=list)
    restarts: int = 0


class Fleet:
    """`busmon up` on a virtual host of its own."""

    def __init__(self, directory: Path, amqp_url: str) -> None:
        self.registry_dir = directory / "registry"
        self.url = amqp_url
        self._log = directory / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
        environment |= {
            "BUSMON_AMQP_URL": amqp_url,
            "BUSMON_REGISTRY_DIR": str(self.registry_dir),
            "BUSMON_LISTEN": "127.0.0.1:0",
            "BUSMON_WORKERS": "2",
        }
        busmon = [sys.executable, "-P", "-m", "busmon"]
        subprocess.run([*busmon, "topology", "declare"], env=environment, check=True, stdout=subprocess.DEVNULL)
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([*busmon, "up"], env=environment, stdout=log, stderr=log)
        self.address = self._started()

    def close(self) -> None:
        """End it in order."""
        self.process.terminate()
        self.process.wait(60)

    def get(self, path: str) -> bytes:
        """A page of the exporter's."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=120) as answer:
            content: bytes = answer.read()
        return content

    def pids(self) -> dict[str, int]:
        """The processes by name; children of the supervisor."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        named = {worker.pid: f"worker {worker.worker}" for worker in status.read(self.registry_dir).workers}
        return {named.get(int(child), "exporter"): int(child) for child in children}

    def restarts(self) -> int:
        """How often a process was replaced."""
        supervisor = status.read(self.registry_dir).supervisor
        return sum(supervisor.restarts.values()) if supervisor else 0

    def _started(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            workers = status.read(self.registry_dir).workers
            started = [line for line in self._log.read_bytes().splitlines() if b"server.started" in line]
            shards = [shard for worker in workers for shard in worker.shards]
            if started and len(workers) == 2 and all(shard.state == "consuming" for shard in shards):
                return str(json.loads(started[-1])["address"])
            time.sleep(0.1)
        raise TimeoutError(self._log.read_text()[-2000:])


class Honest:
    """An agent that goes on publishing, and whoever looks for what it published."""

    def __init__(self, fleet: Fleet, seen: Seen) -> None:
        self._fleet = fleet
        self._seen = seen
        self._published: list[float] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._publish, self._look)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _publish(self) -> None:
        connection = pika.BlockingConnection(pika.URLParameters(self._fleet.url))
        channel, source = connection.channel(), f"honest-{secrets.token_hex(4)}"
        channel.confirm_delivery()
        sample = {"name": TOTAL, "labels": {"agent": "honest"}, "value": 1}
        body = orjson.dumps({"v": 1, "source": source, "agent": "honest", "samples": [sample]})
        for number in itertools.count(1):
            if self._over.wait(PROBE_SECONDS):
                break
            properties = pika.BasicProperties(
                content_type="application/json",
                message_id=f"{source}:{number}",
                app_id="honest",
                headers={"source": source},
            )
            channel.basic_publish("telemetry", "honest.task", body, properties, mandatory=True)
            self._published.append(time.monotonic())
        connection.close()

    def _look(self) -> None:
        """Note the delay of each envelope that is counted since the last look; of those that never are, until now."""
        found = 0
        deadline = None
        while deadline is None or (found < len(self._published) and time.monotonic() < deadline):
            total = self._total()
            now = time.monotonic()
            self._seen.delays += [now - at for at in self._published[found:total]]
            found = max(found, total)
            if self._over.is_set() and deadline is None:
                deadline = now + START_SECONDS
            time.sleep(PROBE_SECONDS)
        self._seen.delays += [time.monotonic() - at for at in self._published[found:]]

    def _total(self) -> int:
        for line in self._fleet.get(f"/metrics?name[]={TOTAL}").decode().splitlines():
            if line.startswith(f'{TOTAL}{{agent="honest"}}'):
                return int(float(line.rpartition(" ")[2]))
        return 0


def resident(pid: int) -> int:
    """What the process has in memory, in bytes; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def measure(node: PrivateNode, directory: Path, name: str, seconds: float) -> Seen:
    """Run one attack for at most so many seconds, and as long again without it."""
    vhost = f"hostile-{secrets.token_hex(4)}"
    node.vhost(vhost)
    seen, fleet = Seen(), Fleet(directory, node.amqp_url.replace("%2F", vhost))
    try:
        before = {process: resident(pid) for process, pid in fleet.pids().items()}
        _scrape(fleet, seen)
        with Honest(fleet, seen):
            time.sleep(2)
            attack = threading.Thread(target=_attack, args=(fleet.url, ATTACKS[name](), seen, seconds))
            attack.start()
            ends_at = time.monotonic() + 2 * seconds
            while attack.is_alive() or time.monotonic() < ends_at:
                for process, pid in fleet.pids().items():
                    more = resident(pid) - before.get(process, 0)
                    seen.more_bytes[process] = max(more, seen.more_bytes.get(process, 0))
                _scrape(fleet, seen)
                time.sleep(0.5)
            attack.join()
        seen.restarts = fleet.restarts()
    finally:
        fleet.close()
    return seen


def _scrape(fleet: Fleet, seen: Seen) -> None:
    began = time.perf_counter()
    fleet.get("/metrics")
    seen.scrape_seconds.append(time.perf_counter() - began)


def _attack(url: str, publishes: Iterator[tuple[str, Publish]], seen: Seen, seconds: float) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    until = time.monotonic() + seconds
    for routing_key, (body, properties) in publishes:
        channel.basic_publish("telemetry", routing_key, body, properties)
        seen.sent_bytes += len(body)
        if time.monotonic() > until:
            break
    connection.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-hostile-")))
        node = stack.enter_context(PrivateNode(base / "node"))
        print("| attack | sent | worst delay of another's envelope | worker | exporter | scrape | restarts | held |")
        print("| --- | --: | --: | --: | --: | --: | --: | --- |", flush=True)
        for number, name in enumerate(args.attacks.split(",")):
            directory = base / str(number)
            directory.mkdir()
            seen = measure(node, directory, name, args.seconds)
            first, *rest = seen.scrape_seconds
            more = max(rest) - first
            worker = max((size for process, size in seen.more_bytes.items() if process != "exporter"), default=0)
            exporter = seen.more_bytes.get("exporter", 0)
            is_held = (
                max(seen.delays) < MAX_DELAY_SECONDS
                and max(worker, exporter) < MAX_MORE_BYTES
                and more < MAX_MORE_SCRAPE_SECONDS
                and not seen.restarts
            )
            print(
                f"| {name} | {seen.sent_bytes / 1e6:.2f} MB | {max(seen.delays):.2f} s | +{worker / 1e6:.0f} MB "
                f"| +{exporter / 1e6:.0f} MB | +{more:.2f} s | {seen.restarts} | {'yes' if is_held else 'no'} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
