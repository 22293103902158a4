"""The cost of the fleet as shipped: CPU of all processes of `busmon up` for a backlog, and that of plain pika.

    .venv/bin/python benchmarks/fleet.py [--envelopes 20000] [--rounds 3] [--forms tables,samples] [--sizes 1,5,100]

The fleet has four shards, two workers and an exporter that is scraped once a second. Envelopes have counters, a gauge
and two histograms of five families, and ids that aren't sequences. They are published in one transaction while the
fleet waits, so that it drains a backlog. CPU is user and system time of the fleet's processes, from the transaction's
commit until each envelope is counted; `workers` is the part of the workers alone, apart from the exporter and the
supervisor. `floor` is the one of `consume.py`, pika and `orjson.loads` on one queue, for the
same envelopes. Figures are medians over the rounds, in which both take turns.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import backlog
import children
import entry
import orjson
import pika
from consume import Bench, bench

from busmon.demo.rabbitmq import LOOPBACK, free_ports
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings, load

SHARDS = 4
WORKERS = 2
SOURCES = 50
AGENTS = ("analyzer", "writer", "planner", "critic", "router")
LOOK_SECONDS = 0.05
SCRAPE_SECONDS = 1.0
START_SECONDS = 60.0

Backlog = list[tuple[bytes, pika.BasicProperties]]

Sample = tuple[str, dict[str, str], float]


def platform(agent: str, number: int) -> list[Sample]:
    """Make a sample of each family."""
    return [
        ("tasks_processed_total", {"agent": agent, "status": ("success", "failure", "timeout")[number % 3]}, 1),
        ("task_duration_seconds", {"agent": agent}, number % 97 / 10),
        ("queue_size", {"queue": f"queue-{number % 20}"}, number % 1000),
        ("messages_published_total", {"exchange": "agents", "routing_key": f"task.{number % 20}"}, 2),
        ("api_request_duration_seconds", {"endpoint": f"/v1/{number % 10}", "method": "POST"}, number % 89 / 100),
    ]


def pick(agent: str, number: int, samples: int) -> list[Sample]:
    """Pick the samples of an agent's envelope, by the envelope's number: of each family in turn."""
    return [platform(agent, number + index // 5)[(number + index) % 5] for index in range(samples)]


def envelopes(count: int, samples: int, form: str) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Make bodies with their properties, as a publisher that isn't busmon's sends them."""
    run = time.time_ns()
    for number in range(count):
        agent = AGENTS[number % len(AGENTS)]
        source = f"{agent}-{run}-{number % SOURCES}"
        picked = pick(agent, number, samples)
        content = _tables(picked) if form == "tables" else _samples(picked)
        body = orjson.dumps({"v": 1, "source": source, "agent": agent, "ts": time.time(), **content})
        headers = {"source": source}
        yield (
            body,
            pika.BasicProperties("application/json", None, headers, 2, message_id=str(uuid.uuid4()), app_id=agent),
        )


def _samples(picked: list[Sample]) -> dict[str, Any]:
    return {"samples": [{"name": name, "labels": labels, "value": value} for name, labels, value in picked]}


def _tables(picked: list[Sample]) -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {}
    for name, labels, value in picked:
        table = tables.setdefault(name, {"name": name, "labels": [*labels], "rows": []})
        table["rows"].append([*labels.values(), [value] if name.endswith("_seconds") else value])
    return {"tables": [*tables.values()]}


class Scraper(threading.Thread):
    """Scrapes an address each second from `start` to `end`.

    Args:
        listen: host and port.
    """

    def __init__(self, listen: str) -> None:
        super().__init__()
        self._listen = listen
        self._ended = threading.Event()

    def run(self) -> None:
        """Scrape until the end; an answer that fails is left out."""
        while not self._ended.wait(SCRAPE_SECONDS):
            with suppress(OSError):
                urllib.request.urlopen(f"http://{self._listen}/metrics", timeout=30).read()

    def end(self) -> None:
        """End it, if it was started, and wait for that."""
        self._ended.set()
        if self.is_alive():
            self.join()


def read_cpu(process: Path) -> float:
    """Return the CPU seconds of a process, by its directory in `/proc`.

    They are in nanoseconds of each thread, where `stat` counts hundredths of a second.
    """
    schedules = [thread.read_text() for thread in process.glob("task/*/schedstat")]
    return sum(int(schedule.split()[0]) for schedule in schedules) / 1e9


class Cpu(NamedTuple):
    """CPU seconds of all processes of a fleet, and of its workers."""

    fleet: float
    workers: float


class Fleet:
    """A fleet that runs, with a scraper."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._scraper = Scraper(settings.listen)
        environment = {**os.environ, **settings.environment(), "BUSMON_LOG_LEVEL": "error"}
        command = [sys.executable, "-P", "-m", "busmon", "up"]
        self._process = children.start(command, env=environment, start_new_session=True)
        self._exposition = Exposition(settings.registry_dir)
        self._counted = 0

    def wait(self) -> None:
        """Wait until the exporter says that the fleet consumes, and begin to scrape."""
        ends_at = time.monotonic() + START_SECONDS
        while time.monotonic() < ends_at:
            with suppress(OSError):
                urllib.request.urlopen(f"http://{self._settings.listen}/-/ready", timeout=5).close()
                self._scraper.start()
                return
            time.sleep(LOOK_SECONDS)
        sys.exit("fleet.py: the fleet isn't ready after a minute")

    def wait_until_counted(self, envelopes: int) -> None:
        """Wait until so many more envelopes are counted."""
        self._counted += envelopes
        while self._exposition.collect().value("busmon_envelopes_consumed_total") < self._counted:
            time.sleep(LOOK_SECONDS)

    def read_cpu(self) -> Cpu:
        """Return the user and system time of the fleet's processes since their start."""
        fleet = workers = 0.0
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                fields = (process / "stat").read_text().rpartition(") ")[2].split()
                if int(fields[3]) == self._process.pid:  # its session
                    seconds = read_cpu(process)
                    fleet += seconds
                    workers += seconds * (b"worker" in (process / "cmdline").read_bytes().split(b"\0"))
        return Cpu(fleet, workers)

    def drain(self, made: Backlog) -> Cpu:
        """Publish envelopes, wait until each is counted, and return the CPU that it took."""
        began: list[Cpu] = []
        backlog.publish(self._settings.amqp_url, self._settings.exchange, made, lambda: began.append(self.read_cpu()))
        self.wait_until_counted(len(made))
        ended = self.read_cpu()
        return Cpu(ended.fleet - began[0].fleet, ended.workers - began[0].workers)

    def stop(self) -> None:
        """Stop the fleet and the scraper."""
        self._process.terminate()
        self._process.wait()
        self._scraper.end()


@contextmanager
def fleet(side: Bench, scratch: str) -> Iterator[tuple[Fleet, Settings]]:
    """Start a fleet on a directory and a port of its own."""
    listen = f"{LOOPBACK}:{free_ports(1)[0]}"
    base = side.declare(SHARDS)
    settings = load(
        {
            "topology": str(base.topology),
            "amqp_url": base.amqp_url,
            "exchange": base.exchange,
            "registry_dir": scratch,
            "listen": listen,
            "workers": str(WORKERS),
        }
    )
    running = Fleet(settings)
    try:
        running.wait()
        yield running, settings
    finally:
        running.stop()


def main() -> None:
    """Print a table for each form."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--forms", default="tables,samples")
    parser.add_argument("--sizes", default="1,5,100")
    args = parser.parse_args()
    print(f"{'form':10}{'samples':>8}{'fleet, CPU µs/env.':>20}{'workers':>9}{'floor':>8}{'fleet ÷ floor':>16}")
    with (
        bench() as side,
        tempfile.TemporaryDirectory(prefix="busmon-fleet-") as scratch,
        fleet(side, scratch) as (running, _),
    ):
        for form in args.forms.split(","):
            for samples in map(int, args.sizes.split(",")):
                runs = [
                    measure(side, running, [*envelopes(args.envelopes, samples, form)]) for _ in range(args.rounds + 1)
                ]
                _report(form, samples, args.envelopes, *zip(*runs[1:], strict=True))


def measure(side: Bench, running: Fleet, made: Backlog) -> tuple[float, float, float]:
    """Have both drain the same envelopes; return the CPU seconds of the fleet, of its workers, and of the floor."""
    return *running.drain(made), side.drain_floor(made)


def _report(form: str, samples: int, count: int, *sides: Sequence[float]) -> None:
    fleet, workers, floor = (statistics.median(side) / count * 1e6 for side in sides)
    print(f"{form:10}{samples:>8}{fleet:>20.1f}{workers:>9.1f}{floor:>8.1f}{fleet / floor:>16.2f}", flush=True)


if __name__ == "__main__":
    entry.run(main)
