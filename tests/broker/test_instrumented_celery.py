"""A real Celery worker that is instrumented by signals: each task counts once, whatever its pool and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .test_telemetry import arrived, tables, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .topologies import Client, Place, Taken

TASKS = """
import os, signal, time
from celery import Celery
from busmon import Telemetry
from busmon.instrument import instrument_celery

app = Celery("plans", broker=os.environ["BROKER_URL"])
app.conf.update(task_default_queue="plans", worker_hijack_root_logger=False, task_ignore_result=True,
                task_acks_late=False, broker_connection_retry_on_startup=True, worker_enable_remote_control=False)
telemetry = Telemetry(os.environ["AGENT"])
instrument_celery(telemetry)

@app.task
def plan():
    return 1

@app.task
def fail():
    raise ValueError("bad")

@app.task(bind=True, max_retries=2, default_retry_delay=0)
def retry(self):
    if self.request.retries < 2:
        raise self.retry(exc=ConnectionError("away"))

@app.task(soft_time_limit=1)
def slow():
    time.sleep(60)

@app.task
def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""
SEND = """
import sys, tasks
for name in sys.argv[1:]:
    getattr(tasks, name).delay()
tasks.telemetry.close()
"""
LOST_SECONDS = 60
"""Celery takes 10 to 15 s to notice that a child was killed."""


def environment(place: Place, directory: Path, agent: str) -> dict[str, str]:
    return os.environ | {
        "AGENT": agent,
        "BROKER_URL": place.amqp_url,
        "BUSMON_AMQP_URL": place.amqp_url,
        "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.05",
        "BUSMON_SPOOL_DIR": str(directory / "spool"),
    }


@contextmanager
def a_worker(place: Place, directory: Path, pool: str) -> Iterator[None]:
    """A worker of two processes or threads, which ends in order with the block."""
    command = ["celery", "--app", "tasks", "worker", "--pool", pool, "--concurrency", "2", "--loglevel", "INFO"]
    log = directory / "worker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=directory,
            env=environment(place, directory, "worker"),
            stdout=output,
            stderr=output,
        )
    try:
        yield
        process.terminate()
        assert process.wait(60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_task_counts_once(place: Place, client: Client, tmp_path: Path, pool: str) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    names = ["plan", "plan", "plan", "fail", "retry", *(["slow"] if pool == "prefork" else [])]
    send(place, tmp_path, *names)
    with a_worker(place, tmp_path, pool):
        taken = arrived(client, lambda taken: total(taken, "tasks_processed_total") == len(names))
    taken += client.take("telemetry.fold.0", client.ready("telemetry.fold.0"))
    processes = [
        row for table in tables(taken) if table["name"] == "celery_active_process_count" for row in table["rows"]
    ]
    assert {tuple(row) for row in processes} == {("plans", 2 if pool == "prefork" else 0)}
    slow = {("worker", "timeout"): 1} if pool == "prefork" else {}
    assert rows(taken, "tasks_processed_total") == {
        ("worker", "success"): 4,
        ("worker", "failure"): len(names) - 4,
    }
    assert rows(taken, "task_failures_total") == {("worker", "validation"): 1, ("worker", "dependency"): 2} | slow
    assert rows(taken, "messages_published_total") == {("", "plans"): len(names) + 2}
    assert rows(taken, "messages_consumed_total") == {("plans", "worker"): len(names) + 2}


def test_a_task_whose_process_is_killed_counts_as_a_failure(place: Place, client: Client, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    send(place, tmp_path, "die")
    taken: list[Taken] = []
    deadline = time.monotonic() + LOST_SECONDS
    with a_worker(place, tmp_path, "prefork"):
        while not rows(taken, "tasks_processed_total"):
            assert time.monotonic() < deadline, (tmp_path / "worker.log").read_text()
            taken += client.take("telemetry.fold.0", client.ready("telemetry.fold.0"))
    assert rows(taken, "tasks_processed_total") == {("worker", "failure"): 1}
    assert rows(taken, "task_failures_total") == {("worker", "internal"): 1}


def send(place: Place, directory: Path, *names: str) -> None:
    """Send tasks from a program of its own."""
    command = [sys.executable, "-c", SEND, *names]
    subprocess.run(command, cwd=directory, env=environment(place, directory, "client"), check=True, timeout=60)


def rows(taken: list[Taken], name: str) -> dict[tuple[str, ...], float]:
    """A counter's totals by its label values, each message id counted once."""
    found: dict[tuple[str, ...], float] = {}
    once = {each.properties.message_id: each for each in taken}.values()
    for table in tables(once):
        for *labels, value in table["rows"] if table["name"] == name else []:
            found[tuple(labels)] = found.get(tuple(labels), 0) + value
    return found
