"""How long from a fault to the webhook, live: agents, RabbitMQ, fleet, exporter, Prometheus, Alertmanager, all real.

    python benchmarks/alerts_live.py                49 faults at random moments within 3 minutes; takes about 8
    python benchmarks/alerts_live.py --few          one of each of five kinds; takes about 3
    python benchmarks/alerts_live.py --write        the table goes into docs/alerting.md

Scrape, evaluation and group times are the shipped ones; of Alertmanager's configuration only the receivers are
replaced, by one webhook. Faults are independent of one another and overlap. A delay is from the moment at which an
agent's value changes, or a process is killed, to the webhook's request.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from alerts import three

from busmon import Telemetry
from busmon import settings as all_settings
from busmon.demo import inbox
from busmon.demo.native import NativeStack
from busmon.demo.rabbitmq import Address

WARM_UP_SECONDS = 75.0
SPREAD_SECONDS = 180.0
PATIENCE_SECONDS = 300.0
TICK_SECONDS = 1.0
PAGE = Path("docs/alerting.md")
BEGIN, END = "<!-- Written by `python benchmarks/alerts_live.py --write`: -->", "<!-- until there. -->"
AGENT = """
import sys, time
from dataclasses import replace
from busmon import Telemetry, settings
telemetry = Telemetry(sys.argv[1], settings=replace(settings.load(), amqp_url=sys.argv[2]))
submitted = telemetry.counter("tasks_submitted_total", labelnames=("type", "priority")).labels("live", "low")
while True:
    submitted.inc()
    time.sleep(float(sys.argv[3]))
"""
BUSY_SECONDS, IDLE_SECONDS = 1, 3600


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        alert: that is to tell of it.
        label: by which it is known.
        value: of that label.
        act: makes it so, at the onset and at each tick after; it is given the seconds since.
    """

    alert: str
    label: str
    value: str
    act: Callable[[float], object]
    due: float = 0.0
    began: float | None = None


@dataclass(slots=True)
class Told:
    """What the webhook was told, and when first."""

    at: dict[tuple[str, str], float] = field(default_factory=dict)

    def take(self, request: dict[str, Any]) -> None:
        """Note each alert that fires."""
        now = time.monotonic()
        for alert in request["alerts"]:
            labels = alert["labels"]
            if alert["status"] == "firing":
                for value in ("", *labels.values()):
                    self.at.setdefault((labels["alertname"], value), now)


class Platform:
    """What the faults happen to: one agent with many series, some processes, some scraped targets.

    Args:
        stack: ends them.
        amqp_url: the broker's.
    """

    def __init__(self, stack: ExitStack, amqp_url: str) -> None:
        self._amqp_url = amqp_url
        self._stack = stack
        telemetry = Telemetry("live", settings=replace(all_settings.load(), amqp_url=amqp_url))
        stack.callback(telemetry.close, 1.0)
        self._queue = telemetry.gauge("queue_size", labelnames=("queue",))
        self._up = telemetry.gauge("service_up", labelnames=("service",))
        self._active = telemetry.gauge("connection_pool_active", labelnames=("type",))
        self._size = telemetry.gauge("connection_pool_size", labelnames=("type",))
        self._memory = telemetry.gauge("memory_usage_bytes", labelnames=("process",))
        self._limit = telemetry.gauge("memory_limit_bytes", labelnames=("process",))
        self._tasks = telemetry.counter("tasks_processed_total", labelnames=("agent", "status"))
        self._requests = telemetry.histogram("api_request_duration_seconds", labelnames=("endpoint", "method"))
        self._failing = 0.0
        self._slow: set[str] = set()
        self._endpoints: list[str] = []
        self._pauses = cycle((BUSY_SECONDS, IDLE_SECONDS))

    def faults(self, counts: dict[str, int]) -> Iterator[Fault]:
        """So many of each alert, on series of their own that are well until then."""
        makers: dict[str, Callable[[str], Fault]] = {
            "QueueOverflow": self._overflow,
            "QueueFillsFast": self._filling,
            "DependencyDown": self._dependency,
            "DatabaseConnectionPoolExhausted": self._pool,
            "MemoryNearlyExhausted": self._exhausted,
            "ResponseTimesSpike": self._slowness,
            "TaskFailuresSpike": self._failures,
            "AgentSilent": self._silence,
            "ServiceDown": self._target,
        }
        for alert, count in counts.items():
            for number in range(count):
                yield makers[alert](f"{alert.lower()}-{number}")

    def tick(self) -> None:
        """A second's tasks and requests."""
        failed = round(20 * self._failing)
        self._tasks.labels("live", "success").inc(20 - failed)
        self._tasks.labels("live", "failure").inc(failed)
        for endpoint in self._endpoints:
            for _ in range(4):
                self._requests.labels(endpoint, "GET").observe(8.0 if endpoint in self._slow else 0.05)

    def _overflow(self, name: str) -> Fault:
        self._queue.labels(name).set(300)
        return Fault("QueueOverflow", "queue", name, lambda _: self._queue.labels(name).set(12_000))

    def _filling(self, name: str) -> Fault:
        self._queue.labels(name).set(300)
        return Fault("QueueFillsFast", "queue", name, lambda age: self._queue.labels(name).set(300 + 150 * age))

    def _dependency(self, name: str) -> Fault:
        self._up.labels(name).set(1)
        return Fault("DependencyDown", "dependency", name, lambda _: self._up.labels(name).set(0))

    def _pool(self, name: str) -> Fault:
        self._size.labels(name).set(20)
        self._active.labels(name).set(5)
        return Fault("DatabaseConnectionPoolExhausted", "type", name, lambda _: self._active.labels(name).set(20))

    def _exhausted(self, name: str) -> Fault:
        self._limit.labels(name).set(1e9)
        self._memory.labels(name).set(3e8)
        return Fault("MemoryNearlyExhausted", "process", name, lambda _: self._memory.labels(name).set(9.7e8))

    def _slowness(self, name: str) -> Fault:
        self._endpoints.append(name)
        return Fault("ResponseTimesSpike", "endpoint", name, lambda _: self._slow.add(name))

    def _failures(self, _: str) -> Fault:
        def fail(_: float) -> None:
            self._failing = 0.3

        return Fault("TaskFailuresSpike", "", "", fail)

    def _silence(self, name: str) -> Fault:
        pause = str(next(self._pauses))  # one that was idle, and was heard, must not be told before it is killed
        process = subprocess.Popen([sys.executable, "-c", AGENT, name, self._amqp_url, pause])
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

        def kill(age: float) -> None:
            if age == 0 and process.poll() is not None:
                sys.exit(f"the agent {name} ended by itself")
            process.kill()

        return Fault("AgentSilent", "agent", name, kill)

    def _target(self, _: str) -> Fault:
        server = _served(self._stack, _Target)
        return Fault("ServiceDown", "instance", _address(server), lambda _: setattr(server, "is_down", True))


class _Target(BaseHTTPRequestHandler):
    """Something to scrape."""

    def do_GET(self) -> None:
        self.send_response(503 if getattr(self.server, "is_down", False) else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Play the faults, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--few", action="store_true", help="one of each of five kinds")
    arguments.add_argument("--write", action="store_true", help="write the table into docs/alerting.md")
    arguments.add_argument("--seed", type=int, default=1, help="when the faults begin (default: 1)")
    given = arguments.parse_args()
    several = {
        "QueueOverflow": 6,
        "QueueFillsFast": 6,
        "DependencyDown": 6,
        "DatabaseConnectionPoolExhausted": 5,
        "MemoryNearlyExhausted": 5,
        "ResponseTimesSpike": 4,
        "TaskFailuresSpike": 1,
        "AgentSilent": 12,
        "ServiceDown": 4,
    }
    one = dict.fromkeys(
        ("QueueOverflow", "DependencyDown", "TaskFailuresSpike", "MemoryNearlyExhausted", "ServiceDown"), 1
    )
    with ExitStack() as stack:
        faults, told = play(stack, one if given.few else several, SPREAD_SECONDS / (4 if given.few else 1), given.seed)
    lines = list(report(faults, told))
    print("\n".join(lines))
    if given.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}")
    sys.exit(any(_delay(fault, told) is None for fault in faults))


def play(stack: ExitStack, counts: dict[str, int], spread: float, seed: int) -> tuple[list[Fault], Told]:
    """Start everything, have the faults happen, and wait until all are told."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-live-")))
    os.environ["BUSMON_SPOOL_DIR"] = str(directory / "spool")  # of agents here and of those that are started
    quiet = ("--agents", "1", "--rate", "0.2", "--deploys", "0")
    monitoring = stack.enter_context(NativeStack(directory, all_settings.load(), say, quiet))
    told = Told()
    _route(directory, monitoring.addresses["alertmanager"], _address(_webhook(stack, told)))
    address = Address.read(directory / "rabbitmq")
    platform = Platform(stack, f"amqp://guest:guest@127.0.0.1:{address.amqp_port}/%2F")
    faults, random = list(platform.faults(counts)), Random(seed)  # noqa: S311 - repeats by its seed
    _scrape(directory, monitoring.addresses["node"], faults)
    began = time.monotonic()
    for fault in faults:
        fault.due = began + WARM_UP_SECONDS + random.uniform(0, spread)
    say(f"{len(faults)} faults, the first in {WARM_UP_SECONDS:.0f} s")
    last = began + WARM_UP_SECONDS + spread + PATIENCE_SECONDS
    while time.monotonic() < last and any(_delay(fault, told) is None for fault in faults):
        platform.tick()
        _advance(faults, told)
        time.sleep(TICK_SECONDS - time.monotonic() % TICK_SECONDS)
    return faults, told


def _advance(faults: Sequence[Fault], told: Told) -> None:
    """Have happen what is due."""
    now = time.monotonic()
    for fault in faults:
        if fault.due <= now:
            if fault.began is None:
                fault.began = now
                seen = sum(_delay(other, told) is not None for other in faults)
                say(f"{fault.alert} {fault.value}; {seen} of {len(faults)} told")
            fault.act(now - fault.began)


def report(faults: Sequence[Fault], told: Told) -> Iterator[str]:
    """The delays of each alert, and of all."""
    yield "| Alert | Faults | Told | From onset to the webhook, s: p50 / p95 / max |"
    yield "|---|---:|---:|---:|"
    every: list[float] = []
    for alert in sorted({fault.alert for fault in faults}):
        delays = [_delay(fault, told) for fault in faults if fault.alert == alert]
        known = [delay for delay in delays if delay is not None]
        every += known
        yield f"| {alert} | {len(delays)} | {len(known)} | {three(known)} |"
    yield f"| all | {len(faults)} | {len(every)} | {three(every)} |"


def _delay(fault: Fault, told: Told) -> float | None:
    """From the onset to the webhook; None where it wasn't told, or was before anything had happened."""
    at = told.at.get((fault.alert, fault.value))
    return at - fault.began if fault.began is not None and at is not None and at >= fault.began else None


def _route(directory: Path, alertmanager: str, webhook: str) -> None:
    """Give every receiver the webhook, and nothing else."""
    inbox.address(directory / "alertmanager/alertmanager.yml", f"http://{webhook}")
    reload = urllib.request.Request(f"http://{alertmanager}/-/reload", method="POST")
    urllib.request.urlopen(reload).close()  # noqa: S310 - a server of our own


def _scrape(directory: Path, node: str, faults: Sequence[Fault]) -> None:
    """Have Prometheus scrape the targets that are to fail, beside the host."""
    targets = [node, *(fault.value for fault in faults if fault.alert == "ServiceDown")]
    (directory / "prometheus/targets/node.yml").write_text(json.dumps([{"targets": targets}]))


def _webhook(stack: ExitStack, told: Told) -> ThreadingHTTPServer:
    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return _served(stack, Hook)


def _served(stack: ExitStack, answers: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server


def _address(server: ThreadingHTTPServer) -> str:
    return f"127.0.0.1:{server.server_address[1]}"


def say(line: str) -> None:
    """Progress, on a terminal or in a log."""
    print(f"{time.strftime('%X')}  {line}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
