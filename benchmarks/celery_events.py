"""Celery's events, counted by busmon and by celery-exporter from the same tasks: totals, CPU an event, a restart.

    .venv/bin/python benchmarks/celery_events.py [--tasks 10000]

A worker of Celery with two threads does tasks that a client sends, some of which fail or are retried. Both sides count
the same events on a private broker, and so does a queue of the benchmark's own. CPU time is of busmon's workers, which
count, and of celery-exporter, above that of a while without tasks; a scrape's is left out. Then every process of both
sides is killed and started again.
celery-exporter comes from PyPI, in a virtual environment of its own.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
import venv
from collections import Counter
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import children
import entry
from prometheus_client.parser import text_string_to_metric_families

from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import free_ports
from tests.celery.programs import CeleryProgram, Oracle
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

EXPORTER = "prometheus-exporter-celery==0.11.2"
KINDS = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked")
TICKS = os.sysconf("SC_CLK_TCK")
SECONDS = 900.0
IDLE_SECONDS = 15.0


class CeleryExporter:
    """celery-exporter, in an environment of its own."""

    def __init__(self, directory: Path, amqp_url: str) -> None:
        home = directory / "celery-exporter"
        venv.create(home, with_pip=True)
        python = str(home / "bin/python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", EXPORTER], check=True)
        (self._port,) = free_ports(1)
        program = "from src.cli import cli; cli()"
        said = ["--broker-url", amqp_url, "--port", str(self._port), "--log-level", "WARNING"]
        self._command = [python, "-c", program, *said]
        self._log = (directory / "celery-exporter.log").open("wb")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = children.start(self._command, stdout=self._log, stderr=self._log)
        wait_until(self.scrape, "celery-exporter")

    def scrape(self) -> str:
        """Return its metrics; empty while it doesn't answer."""
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=30) as answer:
            text: str = answer.read().decode()
            return text
        return ""

    def kill(self) -> None:
        """End it by SIGKILL."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    """Run both sides over the same tasks, and print what each counted and cost."""
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="busmon-celery-") as scratch, ExitStack() as ending:
        directory = Path(scratch)
        node = ending.enter_context(PrivateNode(directory / "broker"))
        declare(load(None, "telemetry", with_celery=True), node.amqp_url, None, {})
        program, oracle = CeleryProgram(directory, node.amqp_url), Oracle(node.amqp_url)
        theirs = CeleryExporter(directory, node.amqp_url)
        fleet = ending.enter_context(RealFleet(directory, node.amqp_url))
        theirs.start()
        ending.callback(theirs.kill)
        ending.enter_context(program.worker("shop-1", "threads"))
        idle = _measure_idle(fleet, theirs)
        began, before = time.monotonic(), _cpu(fleet, theirs)
        fails = given.tasks // 50
        program.send(pay=given.tasks - 3 * fails, refuse=fails, ship=fails, late_pay=fails)
        wait_until(lambda: oracle.ended() >= given.tasks, "the tasks to end", SECONDS)
        events = oracle.count()
        time.sleep(5)  # neither says how far it is without a scrape, which costs
        lasted = time.monotonic() - began
        used = [
            (after - earlier - rate * lasted) / events.total() * 1e6
            for after, earlier, rate in zip(_cpu(fleet, theirs), before, idle, strict=True)
        ]
        _print_totals("after the tasks", events, fleet, theirs)
        print(f"CPU an event: busmon {used[0]:.0f} µs, celery-exporter {used[1]:.0f} µs; {events.total():,} events")
        _restart(fleet, theirs)
        _print_totals("after a kill -9 and a restart of both", events, fleet, theirs)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks that are sent (default: %(default)s)")
    return parser.parse_args()


def _measure_idle(fleet: RealFleet, theirs: CeleryExporter) -> tuple[float, float]:
    """Return the CPU seconds of each side in a second without tasks, heartbeats of a worker included."""
    before = _cpu(fleet, theirs)
    time.sleep(IDLE_SECONDS)
    ours, others = (after - earlier for after, earlier in zip(_cpu(fleet, theirs), before, strict=True))
    return ours / IDLE_SECONDS, others / IDLE_SECONDS


def _restart(fleet: RealFleet, theirs: CeleryExporter) -> None:
    for victim in fleet.worker_pids():
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    fleet.stop()
    fleet.start()
    theirs.kill()
    theirs.start()


def _ours(fleet: RealFleet) -> str:
    return fleet.get("/metrics")[1].decode()


def _totals(text: str) -> Counter[str]:
    totals: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        kind = family.name.removeprefix("celery_task_")
        if family.type == "counter" and kind in KINDS:
            totals[kind] += sum(int(each.value) for each in family.samples if each.name.endswith("_total"))
    return totals


def _print_totals(when: str, events: Counter[Any], fleet: RealFleet, theirs: CeleryExporter) -> None:
    happened: Counter[str] = Counter()
    for (type_, _), count in events.items():
        happened[type_.removeprefix("task-")] += count
    ours, others = _totals(_ours(fleet)), _totals(theirs.scrape())
    print(f"{when}:\n| events | happened | busmon | celery-exporter |\n|---|--:|--:|--:|")
    for kind in KINDS:
        print(f"| {kind} | {happened[kind]:,} | {ours[kind]:,} | {others[kind]:,} |")


def _cpu(fleet: RealFleet, theirs: CeleryExporter) -> tuple[float, float]:
    """Return the CPU seconds of the fleet's workers, and of celery-exporter."""
    return sum(map(_cpu_of, fleet.worker_pids())), _cpu_of(theirs.process.pid)


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


if __name__ == "__main__":
    entry.run(main)
