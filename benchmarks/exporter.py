"""The cost of foreign clients: fifty scrapers, a slow-loris and a scanner against one exporter and a fold.

    .venv/bin/python benchmarks/exporter.py [--seconds 30] [--series 100000] [--scrapers 50] [--silent 500]

One process folds without pause into a shard of so many series, a real exporter serves it, and one scraper, the
*fifty-first*, scrapes once a second with Prometheus' default timeout of 10 seconds. That runs twice for as long: alone,
and while another process

- scrapes over and over, 50 scrapers at once, compressed as Prometheus asks for it,
- holds 500 connections that send a request's head byte by byte, and opens each again when it is cut off,
- connects, sends garbage and leaves, as a port scanner does, as fast as it is answered.

Printed are the percentiles of the fifty-first's answers, the rate of the fold and the exporter's CPU time in both runs,
and whether the last scrape's total is what was folded. All of it shares this machine's cores.
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import children
import entry

from busmon import extras
from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.shard.shard import Shard
from busmon.wire.envelope import Envelope

METRIC = "messages_published_total"
TIMEOUT_SECONDS = 10.0
ROWS = 100
BATCH = 50
GARBAGE = (b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n", b"GET /" + b"a" * 20_000, b"\0" * 100, b"HELO x\r\n", b"")
GZIP = {"Accept-Encoding": "gzip", "Accept": "application/openmetrics-text;version=1.0.0"}

_START = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Exporter:
    """A running exporter."""

    pid: int
    port: int

    def cpu_seconds(self) -> float:
        """Read the CPU time it has used, from proc_pid_stat(5)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Run:
    """The observations of one run.

    Attributes:
        answers: the fifty-first's, in seconds; an answer that didn't come in time counts as infinite.
        fold_rate: samples a second.
        cores: that the exporter was busy with, on average.
        others: scrapes that the fifty had answered, connections that were cut off, scans.
    """

    answers: list[float]
    fold_rate: float
    cores: float
    others: dict[str, int]

    def line(self, name: str) -> str:
        """Word the run's figures."""
        ordered = sorted(self.answers)
        places = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        figures = [f"{label} {ordered[round(q * (len(ordered) - 1))]:.3f} s" for label, q in places.items()]
        late = sum(seconds > TIMEOUT_SECONDS for seconds in ordered)
        told = ", ".join(f"{count:,} {what}" for what, count in self.others.items())
        return (
            f"{name}: {', '.join(figures)}, max {ordered[-1]:.3f} s, {late} of {len(ordered)} late; "
            f"fold {self.fold_rate:,.0f} samples/s; exporter {self.cores:.2f} cores{f' ({told})' if told else ''}"
        )


def fold(directory: str, series: int, folded: Any, ready: Event, stop: Event) -> None:
    """Write every series once, then go on adding to random ones; `folded` is the sum of what was committed."""
    path = Path(directory)
    shard = Shard.open(path, 0, Families(path, Catalogue.load(), 10), fsync=False)
    turn = random.Random(0)  # noqa: S311 - the same order in every run
    for start in range(0, series, 1000):
        _commit(shard, range(start, min(start + 1000, series)), folded)
    ready.set()
    while not stop.is_set():
        _commit(shard, turn.sample(range(series), min(series, ROWS * BATCH)), folded)
    shard.close()


def _commit(shard: Shard, numbers: Any, folded: Any) -> None:
    now = time.time()
    numbers = list(numbers)
    for start in range(0, len(numbers), ROWS):
        rows = [[f"exchange-{number % 10}", f"task.{number}", 1] for number in numbers[start : start + ROWS]]
        table = {"name": METRIC, "labels": ["exchange", "routing_key"], "rows": rows}
        shard.fold.envelope(Envelope("source", "agent", None, [], [table]), now)
    shard.commit(now)
    folded.value += len(numbers)


def attack(port: int, scrapers: int, silent: int, counts: Any, stop: Event) -> None:
    """Do everything that strangers do, until told to stop."""
    asyncio.run(_attack(port, scrapers, silent, counts, stop))


async def _attack(port: int, scrapers: int, silent: int, counts: Any, stop: Event) -> None:
    tasks = [
        *(asyncio.create_task(_scrape_on(port, counts)) for _ in range(scrapers)),
        *(asyncio.create_task(_dribble(port, counts)) for _ in range(silent)),
        asyncio.create_task(_scan(port, counts)),
    ]
    await asyncio.to_thread(stop.wait)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _scrape_on(port: int, counts: Any) -> None:
    head = "".join(f"{name}: {value}\r\n" for name, value in GZIP.items())
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n".encode()
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            page = await reader.read()
            counts[0] += page.startswith(b"HTTP/1.1 200")
            writer.close()


async def _dribble(port: int, counts: Any) -> None:
    while True:
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in b"GET /metrics HTTP/1.1\r\nX-Slow: " + b"y" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        counts[1] += 1


async def _scan(port: int, counts: Any) -> None:
    while True:
        for garbage in GARBAGE:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(garbage)
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(), 0.2)
                writer.close()
            counts[2] += 1


def answer_seconds(port: int, host: str = "127.0.0.1", context: ssl.SSLContext | None = None) -> float:
    """Measure how long a scraper at this address waits for its scrape; one that isn't answered counts as infinite.

    With a context it connects by TLS, and the handshake is part of its wait.
    """
    began = time.monotonic()
    kind = partial(http.client.HTTPSConnection, context=context) if context else http.client.HTTPConnection
    connection = kind("127.0.0.1", port, timeout=TIMEOUT_SECONDS, source_address=(host, 0))
    try:
        connection.request("GET", "/metrics", headers=GZIP)
        answer = connection.getresponse()
        answer.read()
    except OSError:
        return float("inf")
    finally:
        connection.close()
    return time.monotonic() - began if answer.status == http.HTTPStatus.OK else float("inf")


def run(exporter: Exporter, seconds: float, folded: Any) -> Run:
    """Scrape once a second for as long."""
    began, before, busy, answers = time.monotonic(), folded.value, exporter.cpu_seconds(), []
    while time.monotonic() < began + seconds:
        answers.append(answer_seconds(exporter.port))
        time.sleep(max(0.0, 1 - answers[-1]))
    took = time.monotonic() - began
    return Run(answers, (folded.value - before) / took, (exporter.cpu_seconds() - busy) / took, {})


def run_under_attack(exporter: Exporter, args: argparse.Namespace, folded: Any) -> Run:
    """Measure the scrapes again, under the load of all others."""
    stop, counts = _START.Event(), _START.Array("q", 3)
    attacker = _START.Process(target=attack, args=(exporter.port, args.scrapers, args.silent, counts, stop))
    attacker.start()
    time.sleep(3)  # Until all have connected.
    found = run(exporter, args.seconds, folded)
    stop.set()
    attacker.join()
    names = ("scrapes of the others", "slow connections cut off", "scans")
    return replace(found, others=dict(zip(names, counts[:], strict=True)))


def total(port: int) -> float:
    """Sum all series of a scrape."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{METRIC}{{"))


@contextmanager
def running(directory: str, *options: str, program: Sequence[str] = ("-P", "-m", "busmon")) -> Iterator[Exporter]:
    """Start a real exporter with these options, by a program that takes busmon's arguments."""
    command = [sys.executable, *program, "exporter", "--listen", "127.0.0.1:0", "--registry-dir", directory, *options]
    with children.running(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr or ():
            if (said := json.loads(line))["event"] == "server.started":
                yield Exporter(process.pid, int(said["address"].rpartition(":")[2]))
                return
        raise SystemExit("the exporter ended before it served")


def main() -> None:
    """Run alone, then under attack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each of the two runs takes")
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--scrapers", type=int, default=50)
    parser.add_argument("--silent", type=int, default=500)
    args = parser.parse_args()
    extras.require("fleet", "the exporter")
    folded, ready, stop = _START.Value("d", 0.0), _START.Event(), _START.Event()
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory:
        folding = _START.Process(target=fold, args=(directory, args.series, folded, ready, stop))
        folding.start()
        ready.wait()
        with running(directory) as exporter:
            answer_seconds(exporter.port)
            alone = run(exporter, args.seconds, folded)
            print(alone.line("alone"), flush=True)
            attacked = run_under_attack(exporter, args, folded)
            print(attacked.line("under attack"), flush=True)
            stop.set()
            folding.join()
            lost = folded.value - total(exporter.port)
    part = f"{attacked.fold_rate / alone.fold_rate:.2f}" if alone.fold_rate else "unknown as a part"
    print(f"the fold under attack: {part} of its rate alone; lost: {lost:,.0f}")
    print(f"median answer under attack: {statistics.median(attacked.answers):.3f} s, within {TIMEOUT_SECONDS:g} s")


if __name__ == "__main__":
    entry.run(main)
