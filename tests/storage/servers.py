"""Prometheus, VictoriaMetrics and Alertmanager under test: each on a port of its own, with the files of `docker/`."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from busmon.demo.rabbitmq import free_ports
from tests.patience import wait_until

DOCKER = Path(__file__).parents[2] / "docker"
DAY_SECONDS = 86_400


class Server:
    """A running server, and what can be asked of it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.url = f"http://{address}"

    def get(self, path: str, **parameters: str) -> Any:
        url = f"{self.url}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this machine
            return json.loads(answer.read())

    def ask(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        """The series that a query gives."""
        moment = {} if at is None else {"time": str(at)}
        series: list[dict[str, Any]] = self.get("/api/v1/query", query=query, **moment)["data"]["result"]
        return series

    def has_notified(self) -> bool:
        """Tell whether a Prometheus has sent an alert, by its metrics of this moment."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=10) as answer:  # noqa: S310 - of this machine
            return bool(re.search(rb"^prometheus_notifications_sent_total\S* [1-9]", answer.read(), re.MULTILINE))

    def targets(self) -> tuple[list[str], int] | None:
        """List the targets of a Prometheus, and count those it leaves to others; None until it has found some."""
        found = self.get("/api/v1/targets")["data"]
        active, dropped = found["activeTargets"], found["droppedTargets"]
        return ([target["labels"]["instance"] for target in active], len(dropped)) if active or dropped else None


def address() -> str:
    """One that was free a moment ago."""
    return f"127.0.0.1:{free_ports(1)[0]}"


@contextmanager
def running(directory: Path, command: Sequence[str | Path], where: str, health: str) -> Iterator[Server]:
    """A server while its block runs."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
    try:
        server = Server(where)
        wait_until(lambda: _answers(f"{server.url}{health}"), f"{command[0]}, see {directory / 'log'}")
        yield server
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def prometheus(directory: Path, configuration: Path | str, *flags: str, where: str = "") -> Iterator[Server]:
    """A Prometheus with its data in the directory."""
    where = where or address()
    command = [
        "prometheus",
        f"--config.file={configuration}",
        "--storage.tsdb.path=data",
        f"--web.listen-address={where}",
    ]
    with running(directory, [*command, *flags], where, "/-/ready") as server:
        yield server


@contextmanager
def victoriametrics(directory: Path, *flags: str) -> Iterator[Server]:
    """A VictoriaMetrics with its data in the directory."""
    where = address()
    command = ["victoria-metrics", "-storageDataPath=data", f"-httpListenAddr={where}", *flags]
    with running(directory, command, where, "/health") as server:
        yield server


def configured(directory: Path, file: str, addresses: dict[str, str]) -> Path:
    """A copy of docker/prometheus with these addresses, scraped and evaluated every second; the named file's path."""
    copy = directory / "etc"
    shutil.copytree(DOCKER / "prometheus", copy)
    for target in (copy / "targets").glob("*.yml"):
        target.write_text("[]")
    for name, where in addresses.items():
        for path in [*copy.glob("*.yml"), copy / f"targets/{name}.yml"]:
            if path.parent.name == "targets":
                path.write_text(json.dumps([{"targets": where.split()}]))
            else:
                path.write_text(path.read_text().replace(f"{name}:8428", where))
    for path in copy.rglob("*.yml"):
        text = path.read_text()
        for every in ("5s", "15s", "4s", "10s"):
            text = text.replace(f"interval: {every}", "interval: 1s").replace(
                f"scrape_timeout: {every}", "scrape_timeout: 1s"
            )
        path.write_text(text)
    return copy / file


def old_block(directory: Path, days: int) -> float:
    """Make a block of one series in a Prometheus' data that ended so many days ago; a moment within it."""
    directory.mkdir(parents=True, exist_ok=True)
    end = int(time.time()) - days * DAY_SECONDS
    samples = "".join(f"fleet:old:rate5m 1 {end - 60 * minute}\n" for minute in reversed(range(60)))
    (directory / "old.om").write_text(f"# TYPE fleet:old:rate5m gauge\n{samples}# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", "old.om", "data"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    return float(end - 60)


def _answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310 - of this machine
        return True
    return False
