"""Servers that fork their workers, as a user runs them: the worker that answered a request counts it once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest

from tests.patience import PATIENCE_SECONDS

from .test_forks import sources
from .test_telemetry import arrived, total

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .topologies import Client, Place

APPLICATION = """
import os
from busmon import Telemetry

telemetry = Telemetry("web")
telemetry.counter("loads_total").inc()
hits = telemetry.counter("hits_total", labelnames=["pid_of_worker"])

def application(environ, start_response):
    hits.labels(os.getpid()).inc()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
UWSGI = ["pyuwsgi", "--http-socket", "127.0.0.1:0", "--wsgi-file", "application.py", "--die-on-term", "--need-app"]
GUNICORN = ["gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket", "application:application"]
SERVERS = {
    "uwsgi": [*UWSGI, "--master", "--processes", "2"],
    "uwsgi with threads enabled": [*UWSGI, "--master", "--processes", "2", "--enable-threads"],
    "uwsgi with lazy apps": [*UWSGI, "--master", "--processes", "2", "--lazy-apps"],
    "uwsgi with lazy apps and threads": [*UWSGI, "--master", "--processes", "2", "--lazy-apps", "--threads", "2"],
    "uwsgi with threads": [*UWSGI, "--master", "--processes", "2", "--threads", "2"],
    "uwsgi with Python's fork hooks": [*UWSGI, "--master", "--processes", "2", "--py-call-osafterfork"],
    "uwsgi without a master": [*UWSGI, "--processes", "2"],
    "uwsgi alone": UWSGI,
    "gunicorn": [*GUNICORN, "--workers", "2"],
    "gunicorn with preload": [*GUNICORN, "--workers", "2", "--preload"],
    "gunicorn with preload and threads": [*GUNICORN, "--workers", "2", "--preload", "--threads", "2"],
}
WORKERS = {name: 1 if name == "uwsgi alone" else 2 for name in SERVERS}
ADDRESS = re.compile(r"(?:bound to TCP address |Listening at: http://)(127\.0\.0\.1:\d+)")


class Server(NamedTuple):
    process: subprocess.Popen[bytes]
    log: Path

    def request(self) -> int:
        """Have a request answered; the process id of the worker that did."""
        with urllib.request.urlopen(f"http://{self._address()}/", timeout=PATIENCE_SECONDS) as response:
            return int(response.read())

    def _address(self) -> str:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := ADDRESS.search(self.log.read_text())) is None:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
        return found[1]


@contextmanager
def served(command: list[str], place: Place, directory: Path) -> Iterator[Server]:
    """A server of the application, which ends in order with the block."""
    (directory / "application.py").write_text(APPLICATION)
    environment = {
        "BUSMON_AMQP_URL": place.amqp_url,
        "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.05",
        "BUSMON_SPOOL_DIR": str(directory / "spool"),
        "VIRTUAL_ENV": sys.prefix,
    }
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=directory,
            env=os.environ | environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Server(process, log)
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) in {0, 30}, log.read_text()
    finally:
        with suppress(ProcessLookupError):  # without a master, uWSGI's other workers stay
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answered_by(server: Server, workers: int) -> Counter[int]:
    """Requests by worker, until so many workers have answered one."""
    answered: Counter[int] = Counter()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(answered) < workers or answered.total() < 20:
        answered[server.request()] += 1
        assert time.monotonic() < deadline, answered
    return answered


def rows(taken: list[Any], name: str) -> Counter[int]:
    """A counter's values by its label, which is a process id; each message id once."""
    counted: Counter[int] = Counter()
    for each in {each.properties.message_id: each for each in taken}.values():
        for table in orjson.loads(each.body)["tables"]:
            if table["name"] == name:
                counted.update({int(row[0]): row[-1] for row in table["rows"]})
    return counted


@pytest.mark.parametrize("name", SERVERS)
def test_every_request_is_counted_by_the_worker_that_answered_it(
    place: Place, client: Client, tmp_path: Path, name: str
) -> None:
    if "--py-call-osafterfork" in SERVERS[name] and sys.version_info >= (3, 13):
        pytest.skip("uWSGI with this option answers no request on Python 3.13 and later, with or without busmon")
    with served(SERVERS[name], place, tmp_path) as server:
        answered = answered_by(server, WORKERS[name])
        # The workers are idle from here on, and still publish.
        taken = arrived(client, lambda taken: total(taken, "hits_total") >= answered.total())
        assert rows(taken, "hits_total") == answered
        assert len(sources(taken)) == WORKERS[name]
    assert "Traceback" not in server.log.read_text()
    assert not [*tmp_path.glob("spool/web/*")]


@pytest.mark.parametrize("name", ["uwsgi", "gunicorn with preload"])
def test_a_worker_that_takes_a_killed_ones_place_counts_for_itself(
    place: Place, client: Client, tmp_path: Path, name: str
) -> None:
    with served(SERVERS[name], place, tmp_path) as server:
        before = answered_by(server, 2)
        taken = arrived(client, lambda taken: total(taken, "hits_total") >= before.total())
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        after = answered_by(server, 2)
        assert not {*before} & {*after}
        more = arrived(client, lambda taken: total(taken, "hits_total") >= after.total())
    assert rows([*taken, *more], "hits_total") == before + after
    assert total([*taken, *more], "loads_total") == 1
