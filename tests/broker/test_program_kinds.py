"""Each kind of program that Python services run as counts exactly: what a process did counts once, as its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .test_prefork_servers import GUNICORN, UWSGI, answered_by, rows, served
from .test_telemetry import arrived, total

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from .topologies import Client, Place

from contextlib import contextmanager

POOL = """
import multiprocessing, os, sys
from busmon import Telemetry

telemetry = Telemetry("web")
hits = telemetry.counter("hits_total", labelnames=["pid_of_worker"])

def work(times):
    for _ in range(times):
        hits.labels(os.getpid()).inc()
    return os.getpid(), times

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        for pid, times in pool.imap_unordered(work, [7] * 20):
            print(pid, times, flush=True)
        pool.close()
        pool.join()
"""
TASKS = """
import os
from celery import Celery
from busmon import Telemetry

app = Celery("plans", broker=os.environ["BROKER_URL"])
app.conf.update(task_default_queue="plans", task_ignore_result=True, broker_connection_retry_on_startup=True)
telemetry = Telemetry("web")
hits = telemetry.counter("hits_total", labelnames=["pid_of_worker"])

@app.task
def work():
    hits.labels(os.getpid()).inc()
    with open("done", "a") as done:
        done.write(f"{os.getpid()}\\n")
"""
SEND = "import tasks\nfor _ in range(40):\n    tasks.work.delay()\n"


def environment(place: Place, directory: Path) -> dict[str, str]:
    return os.environ | {
        "BROKER_URL": place.amqp_url,
        "BUSMON_AMQP_URL": place.amqp_url,
        "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.05",
        "BUSMON_SPOOL_DIR": str(directory / "spool"),
    }


@contextmanager
def serve(place: Place, directory: Path, *command: str) -> Iterator[Counter[int]]:
    """Have a server's workers answer requests; the requests by worker."""
    with served([*command], place, directory) as server:
        yield answered_by(server, 2)


@contextmanager
def pool(place: Place, directory: Path, method: str) -> Iterator[Counter[int]]:
    """Have a pool's children count; their increments by child."""
    (directory / "program.py").write_text(POOL)
    command = [sys.executable, "program.py", method]
    run = subprocess.run(
        command, cwd=directory, env=environment(place, directory), check=True, capture_output=True, timeout=90
    )
    counted: Counter[int] = Counter()
    for line in run.stdout.decode().splitlines():
        pid, times = map(int, line.split())
        counted[pid] += times
    yield counted


@contextmanager
def celery(place: Place, directory: Path, *pool: str) -> Iterator[Counter[int]]:
    """Have a worker of Celery do tasks; the tasks by process."""
    (directory / "tasks.py").write_text(TASKS)
    options = {"cwd": directory, "env": environment(place, directory)}
    subprocess.run([sys.executable, "-c", SEND], check=True, timeout=60, **options)  # type: ignore[call-overload]
    program = str(Path(sys.executable).with_name("celery"))
    with (directory / "log").open("wb") as log:
        worker = subprocess.Popen([program, "--app", "tasks", "worker", *pool], stdout=log, stderr=log, **options)  # type: ignore[call-overload]
    done = directory / "done"
    try:
        yield Counter(wait_for_lines(done, 40, worker, directory / "log"))
    finally:
        worker.terminate()
        worker.wait(60)


def wait_for_lines(path: Path, lines: int, worker: subprocess.Popen[bytes], log: Path) -> list[int]:
    """The numbers in a file, once there are so many."""
    while len(found := path.read_text().splitlines() if path.exists() else []) < lines:
        assert worker.poll() is None, log.read_text()
    return [*map(int, found)]


KINDS = {
    "uwsgi": (serve, *UWSGI, "--master", "--processes", "2"),
    "gunicorn, prefork": (serve, *GUNICORN, "--workers", "2"),
    "gunicorn, gevent": (serve, *GUNICORN, "--workers", "2", "--worker-class", "gevent"),
    "gunicorn, threads": (serve, *GUNICORN, "--workers", "2", "--threads", "2"),
    "celery, prefork": (celery, "--pool", "prefork", "--concurrency", "2"),
    "multiprocessing, spawn": (pool, "spawn"),
    "multiprocessing, fork": (pool, "fork"),
    "multiprocessing, forkserver": (pool, "forkserver"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_process_counts_what_it_did_once(place: Place, client: Client, tmp_path: Path, kind: str) -> None:
    run, *arguments = KINDS[kind]
    running: AbstractContextManager[Counter[int]] = run(place, tmp_path, *arguments)  # type: ignore[operator]
    with running as expected:
        taken = arrived(client, lambda taken: total(taken, "hits_total") >= expected.total())
    assert rows(taken, "hits_total") == expected
    assert len(expected) in {1, 2}
