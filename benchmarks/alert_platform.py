"""The platform of the live measurement's faults: an agent with many series, some processes, some scraped targets.

Faults are independent of each other: each has series, a process or a target of its own, which are well until then.
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from pathlib import Path

import children

from busmon import Telemetry
from busmon import settings as all_settings
from busmon.publish.instruments import Counter

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
    """One fault.

    Attributes:
        alert: that is to tell of it.
        label: by which it is known.
        value: of that label.
        act: makes it so, at the onset and at each tick after; it is given the seconds since.
        is_last: whether it takes away what other faults need, and comes after them.
    """

    alert: str
    label: str
    value: str
    act: Callable[[float], object]
    due: float = 0.0
    began: float | None = None
    is_last: bool = False


def _count(alert: str, label: str, value: str, counter: Counter) -> Fault:
    """Make a fault of a counter that is there before, and counts one case."""
    counter.inc()

    def count(age: float) -> None:
        if age == 0:
            counter.inc()

    return Fault(alert, label, value, count)


class Platform:
    """The platform that faults happen to: one agent with many series, some processes, some scraped targets.

    Args:
        stack: ends them.
        amqp_url: the broker's.
        directory: the stack's.
    """

    def __init__(self, stack: ExitStack, amqp_url: str, directory: Path) -> None:
        self._directory = directory
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
        self._breakers = telemetry.gauge("circuit_breaker_state", labelnames=("breaker", "state"))
        self._reloads = telemetry.counter("config_reloads_total", labelnames=("service", "result"))
        self._jobs_started = telemetry.counter("batch_jobs_started_total", labelnames=("job_name",))
        self._jobs_failed = telemetry.counter("batch_jobs_failed_total", labelnames=("job_name",))
        self._restarts = telemetry.counter("agent_restarts_total", labelnames=("agent",), domain="lifecycle")
        self._tasks = telemetry.counter("tasks_processed_total", labelnames=("agent", "status"))
        self._requests = telemetry.histogram("api_request_duration_seconds", labelnames=("endpoint", "method"))
        self._failing = 0.0
        self._slow: dict[str, float] = {}
        self._endpoints: list[str] = []
        self._pauses = cycle((BUSY_SECONDS, IDLE_SECONDS))

    def faults(self, counts: dict[str, int]) -> Iterator[Fault]:
        """Make the faults of each alert, on series of their own that are well until then."""
        makers: dict[str, Callable[[str], Fault]] = {
            "QueueOverflow": self._overflow,
            "QueueFillsFast": self._filling,
            "DependencyDown": self._dependency,
            "DatabaseConnectionPoolExhausted": self._pool,
            "MemoryNearlyExhausted": self._exhaust_memory,
            "ResponseTimesSpike": self._slowness,
            "TaskFailuresSpike": self._failures,
            "AgentSilent": self._silence,
            "ServiceDown": self._target,
            "ServiceAbsent": self._absence,
            "ScrapeFilesSkipped": self._tear_file,
            "HighMemoryUsage": self._usage,
            "SlowResponseTime": self._delay,
            "DependencyBreakerOpen": self._breaker,
            "ConfigurationReloadFailed": lambda name: _count(
                "ConfigurationReloadFailed", "service", name, self._reloads.labels(name, "failure")
            ),
            "ConfigurationChanged": lambda name: _count(
                "ConfigurationChanged", "service", name, self._reloads.labels(name, "success")
            ),
            "BatchJobStarted": lambda name: _count(
                "BatchJobStarted", "job_name", name, self._jobs_started.labels(name)
            ),
            "BatchJobFailed": lambda name: _count("BatchJobFailed", "job_name", name, self._jobs_failed.labels(name)),
            "AgentRestarted": lambda name: _count("AgentRestarted", "agent", name, self._restarts.labels(name)),
        }
        for alert, count in counts.items():
            for number in range(count):
                yield makers[alert](f"{alert.lower()}-{number}")

    def tick(self) -> None:
        """Run the tasks and requests of one second."""
        failed = round(20 * self._failing)
        self._tasks.labels("live", "success").inc(20 - failed)
        self._tasks.labels("live", "failure").inc(failed)
        for endpoint in self._endpoints:
            for _ in range(4):
                self._requests.labels(endpoint, "GET").observe(self._slow.get(endpoint, 0.05))

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

    def _exhaust_memory(self, name: str) -> Fault:
        self._limit.labels(name).set(1e9)
        self._memory.labels(name).set(3e8)
        return Fault("MemoryNearlyExhausted", "process", name, lambda _: self._memory.labels(name).set(9.7e8))

    def _slowness(self, name: str) -> Fault:
        self._endpoints.append(name)
        return Fault("ResponseTimesSpike", "endpoint", name, lambda _: self._slow.update({name: 8.0}))

    def _delay(self, name: str) -> Fault:
        self._endpoints.append(name)
        return Fault("SlowResponseTime", "endpoint", name, lambda _: self._slow.update({name: 3.0}))

    def _usage(self, name: str) -> Fault:
        self._limit.labels(name).set(1e9)
        self._memory.labels(name).set(3e8)
        return Fault("HighMemoryUsage", "process", name, lambda _: self._memory.labels(name).set(9e8))

    def _breaker(self, name: str) -> Fault:
        state = self._breakers.labels(name, "open")
        state.set(0)
        return Fault("DependencyBreakerOpen", "dependency", name, lambda _: state.set(1))

    def _tear_file(self, name: str) -> Fault:
        path = self._directory / f"registry/counter_{name}.db"
        return Fault("ScrapeFilesSkipped", "file", path.name, lambda _: path.write_bytes(b"torn"))

    def _absence(self, _: str) -> Fault:
        targets = self._directory / "prometheus/targets/node.yml"
        return Fault("ServiceAbsent", "job", "node", lambda _: targets.write_text("[]"), is_last=True)

    def _failures(self, _: str) -> Fault:
        def fail(_: float) -> None:
            self._failing = 0.3

        return Fault("TaskFailuresSpike", "", "", fail)

    def _silence(self, name: str) -> Fault:
        pause = str(next(self._pauses))  # one that was idle, and was heard, must not be told before it is killed
        process = children.start([sys.executable, "-c", AGENT, name, self._amqp_url, pause])
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

        def kill(age: float) -> None:
            if age == 0 and process.poll() is not None:
                sys.exit(f"the agent {name} ended by itself")
            process.kill()

        return Fault("AgentSilent", "agent", name, kill)

    def _target(self, _: str) -> Fault:
        server = serve(self._stack, _Target)
        return Fault("ServiceDown", "instance", address(server), lambda _: setattr(server, "is_down", True))


class _Target(BaseHTTPRequestHandler):
    """A scrape target."""

    def do_GET(self) -> None:
        self.send_response(503 if getattr(self.server, "is_down", False) else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve(stack: ExitStack, answers: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """Serve on a port of its own until the stack ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server


def address(server: ThreadingHTTPServer) -> str:
    """Write where it listens."""
    return f"127.0.0.1:{server.server_address[1]}"
