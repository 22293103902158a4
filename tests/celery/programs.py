"""Real Celery: a program of tasks, its clients and workers, and what its events say, by a queue of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager, suppress
from hashlib import blake2b
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson
import pika

if TYPE_CHECKING:
    from collections.abc import Iterator

TASKS = """
import os, signal, time
from celery import Celery

app = Celery("shop", broker=os.environ["BROKER_URL"])
app.conf.update(
    worker_send_task_events=True,
    task_send_sent_event=True,
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    task_default_queue="orders",
    task_publish_retry_policy={"max_retries": 1000, "interval_max": 1},
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=16,
)

@app.task
def pay(amount=0):
    return amount

@app.task
def refuse(card):
    raise ValueError(f"card {card} is refused")

@app.task(bind=True, max_retries=2, default_retry_delay=0)
def ship(self):
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("away"))

@app.task(time_limit=1)
def stall():
    time.sleep(600)

@app.task
def wait(seconds):
    time.sleep(seconds)
"""
SEND = """
import sys, tasks
from celery.signals import before_task_publish

late = False

@before_task_publish.connect
def expire(headers, **_):  # by the worker, for RabbitMQ would drop a message with an expiration of its own
    if late:
        headers["expires"] = "2020-01-01T00:00:00+00:00"

with tasks.app.producer_pool.acquire(block=True) as producer:
    for stated in sys.argv[1:]:
        name, times = stated.split("=")
        task, times, late = getattr(tasks, name.removeprefix("late_")), int(times), name.startswith("late_")
        for _ in range(times):
            arguments = {"refuse": ("4000 1234 5678 9010",), "wait": (600,)}.get(name, ())
            task.apply_async(arguments, producer=producer)
"""
ORACLE = "oracle"


class CeleryProgram:
    """A directory with a program of tasks, and the broker that it uses.

    Args:
        directory: takes the program and the logs.
        amqp_url: the broker; the topology with Celery's exchange is declared on it.
    """

    def __init__(self, directory: Path, amqp_url: str) -> None:
        self.directory = directory
        self.amqp_url = amqp_url
        (directory / "tasks.py").write_text(TASKS)
        self._environment = os.environ | {"BROKER_URL": amqp_url}

    def send(self, **tasks: int) -> None:
        """Send so many of each task, from a client of its own; one named `late_…` has expired."""
        assert self.start_sending(**tasks).wait(600) == 0

    def start_sending(self, **tasks: int) -> subprocess.Popen[bytes]:
        """Send as `send` does, and wait for nothing."""
        said = [f"{name}={times}" for name, times in tasks.items()]
        return subprocess.Popen([sys.executable, "-c", SEND, *said], cwd=self.directory, env=self._environment)

    @contextmanager
    def worker(self, name: str, pool: str = "prefork") -> Iterator[CeleryWorker]:
        """A worker of two processes or threads, which ends with the block."""
        with CeleryWorker(self.directory, self._environment, name, pool) as worker:
            yield worker


class CeleryWorker:
    """One worker; it may be killed."""

    def __init__(  # noqa: PLR0913 - constructed in two places
        self,
        directory: Path,
        environment: dict[str, str],
        name: str,
        pool: str,
        *,
        app: str = "tasks",
        queues: str = "orders",
    ) -> None:
        self.log = directory / f"{name}.log"
        self._command = [
            *(
                str(Path(sys.executable).with_name("celery")),
                "--app",
                app,
                "worker",
                "--pool",
                pool,
                "--queues",
                queues,
            ),
            *("--concurrency", "2", "--hostname", f"celery@{name}", "--loglevel", "WARNING"),
        ]
        self._directory, self._environment = directory, environment

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def stop(self) -> None:
        """End it in order."""
        self.process.terminate()
        assert self.process.wait(60) == 0, self.log.read_text()

    def kill(self) -> None:
        """End it and its children by SIGKILL."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None and self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(60)
        self.kill()


class Oracle:
    """A queue that gets a copy of each event, kept as safe as the fleet's own queues, and what the events amount to.

    Attributes:
        repeated: events that Celery published again, after it didn't learn that they had arrived.
        runtime_seconds: the sum of all tasks that succeeded.
        exceptions: failed tasks by the exception's class; for one that Celery's pool wraps, the wrapper's.
    """

    def __init__(self, amqp_url: str) -> None:
        self._amqp_url = amqp_url
        with self._channel() as channel:
            channel.exchange_declare("celeryev", "topic", durable=True)
            channel.queue_declare(ORACLE, durable=True, arguments={"x-queue-type": "quorum"})
            channel.queue_bind(ORACLE, "celeryev", "#")
        self._seen: set[bytes] = set()
        self._events: Counter[tuple[str, int]] = Counter()
        self._tasks: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._ended: set[int] = set()
        self.repeated = 0
        self.runtime_seconds = 0.0
        self.exceptions: Counter[str] = Counter()

    def count(self) -> Counter[tuple[str, str]]:
        """Count the events by type and name of the task, each once."""
        self._drain()
        counted: Counter[tuple[str, str]] = Counter()
        for (type_, task), times in self._events.items():
            counted[type_, self._names.get(task, "")] += times
        return counted

    def ended(self) -> int:
        """Count the tasks that ended."""
        self._drain(time.monotonic() + 1)  # the events of busy workers never pause
        return len(self._ended)

    def _drain(self, until: float = inf) -> None:
        with self._channel() as channel:
            channel.basic_qos(prefetch_count=500)
            last = 0
            for method, _, body in channel.consume(ORACLE, inactivity_timeout=0.2):
                if method is None:
                    break
                document, last = orjson.loads(body), method.delivery_tag
                for event in document if isinstance(document, list) else [document]:
                    self._take(event, is_redelivered=method.redelivered)
                if time.monotonic() > until:
                    break
            if last:
                channel.basic_ack(last, multiple=True)
            channel.cancel()

    def _take(self, event: dict[str, Any], *, is_redelivered: bool) -> None:
        members = [event.get(key) for key in ("hostname", "pid", "clock", "uuid", "type", "timestamp")]
        identity = blake2b(orjson.dumps(members), digest_size=12).digest()
        if identity in self._seen:
            self.repeated += not is_redelivered
            return
        self._seen.add(identity)
        if "uuid" not in event:
            return
        type_, task = event["type"], self._tasks.setdefault(event["uuid"], len(self._tasks))
        self._events[sys.intern(type_), task] += 1
        if event.get("name"):
            self._names[task] = sys.intern(event["name"])
        if type_ in {"task-succeeded", "task-failed", "task-revoked"}:
            self._ended.add(task)
        self.runtime_seconds += event.get("runtime") or 0.0
        if type_ == "task-failed":
            self.exceptions[event["exception"].partition("(")[0]] += 1

    @contextmanager
    def _channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        connection = pika.BlockingConnection(pika.URLParameters(self._amqp_url))
        yield connection.channel()
        connection.close()


def wait_for_tasks(oracle: Oracle, ended: int, seconds: float, *workers: CeleryWorker) -> None:
    """Wait until so many tasks have ended."""
    deadline = time.monotonic() + seconds
    while (found := oracle.ended()) < ended:
        logs = [worker.log.read_text()[-2000:] for worker in workers]
        assert time.monotonic() < deadline, f"{found} of {ended} tasks ended; {logs}"
        time.sleep(0.2)
