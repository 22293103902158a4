"""The time of `/ready` while a dependency hangs: p50 and p99, next to an exporter without one and a naive probe.

    .venv/bin/python benchmarks/ready.py [--requests 2000] [--clients 4]

An exporter process serves the status files of a fleet of four workers. `none` has no dependency; `hangs` has three
whose sockets take connections and never say a word, asked as often as may be; `naive` asks one such socket within the
request, as a probe without a cache would, and so takes the check's timeout. Each client keeps its connection and asks
again at once. Exporters are measured in turn, in rounds, and medians of the rounds are printed.
"""

import argparse
import asyncio
import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import children
import entry

from busmon import status
from busmon.errors import DependencyError
from busmon.exporter.checks.http import HttpCheck
from busmon.status import ShardStatus, SupervisorStatus, WorkerStatus

WORKERS = 4
HANGING = 3
TIMEOUT_SECONDS = 2.0
NAIVE_REQUESTS = 3
PACE = {"BUSMON_CHECK_INTERVAL_SECONDS": "0.1", "BUSMON_CHECK_FAILURES": "1000"}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog="example: benchmarks/ready.py --requests 500"
    )
    parser.add_argument("--requests", type=int, default=2000, help="of each exporter in each round (2000)")
    parser.add_argument("--clients", type=int, default=4, help="that ask at a time (4)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the medians are printed (3)")
    args = parser.parse_args()
    entry.require_library("structlog")
    with ExitStack() as stack:
        ports = [stack.enter_context(hanging()) for _ in range(HANGING)]
        urls = " ".join(f"hung-{port}=http://127.0.0.1:{port}" for port in ports)
        sides = {
            "none": stack.enter_context(exporter({})),
            "hangs": stack.enter_context(exporter({"BUSMON_DEPENDENCIES": urls})),
        }
        found: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for turn in range(args.rounds):
            for side, port in sides.items():
                print(f"round {turn + 1} of {args.rounds}: {side}", file=sys.stderr)
                found[side].append(percentiles(load(port, args.requests, args.clients)))
        print("naive", file=sys.stderr)
        found["naive"] = [percentiles(naive(ports[0]))]
    print(f"/ready, {args.clients} clients, {args.requests} requests a round, medians of {args.rounds} rounds")
    print(f"{'dependencies':<14}{'p50 ms':>10}{'p99 ms':>10}")
    for side, rounds in found.items():
        p50, p99 = (statistics.median(each) * 1000 for each in zip(*rounds, strict=True))
        print(f"{side:<14}{p50:>10.1f}{p99:>10.1f}")


@contextmanager
def hanging() -> Iterator[int]:
    """Yield the port of a socket that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        yield listener.getsockname()[1]


@contextmanager
def exporter(settings: Mapping[str, str]) -> Iterator[int]:
    """Start an exporter over the status files of a fleet, and yield its port."""
    with tempfile.TemporaryDirectory() as directory:
        tell(Path(directory))
        with children.running(
            [sys.executable, "-m", "busmon", "exporter", "--listen", "127.0.0.1:0", "--registry-dir", directory],
            env={**os.environ, **PACE, **settings, "BUSMON_CHECK_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS)},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            yield next(port for line in process.stderr or () if (port := find_port(line)))


def find_port(line: str) -> int | None:
    """Find the port that the exporter serves at in a line of its log."""
    said = json.loads(line)
    return int(said["address"].rpartition(":")[2]) if said["event"] == "server.started" else None


def tell(registry_dir: Path) -> None:
    """Write status files of workers that consume."""
    now = time.time()
    status.write(registry_dir, SupervisorStatus(1, now, WORKERS, now))
    for number in range(WORKERS):
        shard = ShardStatus(number, f"telemetry.fold.{number}", "consuming", queue_depth=0, last_commit_at=now)
        status.write(registry_dir, WorkerStatus(number, 2, now, now, [shard]))


def load(port: int, requests: int, clients: int) -> list[float]:
    """Measure how long each request takes, in seconds."""

    def ask(count: int) -> list[float]:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        return [time_request(connection) for _ in range(count)]

    with ThreadPoolExecutor(clients) as threads:
        return [each for took in threads.map(ask, [requests // clients] * clients) for each in took]


def time_request(connection: http.client.HTTPConnection) -> float:
    """Ask once."""
    began = time.perf_counter()
    connection.request("GET", "/ready")
    connection.getresponse().read()
    return time.perf_counter() - began


def naive(port: int) -> list[float]:
    """Measure how long the dependency itself takes to answer, up to the check's timeout."""

    async def ask() -> float:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await HttpCheck(f"http://127.0.0.1:{port}").look()
        except (TimeoutError, DependencyError):
            pass
        return time.perf_counter() - began

    return [asyncio.run(ask()) for _ in range(NAIVE_REQUESTS)]


def percentiles(took: list[float]) -> tuple[float, float]:
    """Compute the median and the 99th percentile."""
    ranked = sorted(took)
    return ranked[len(ranked) // 2], ranked[min(len(ranked) - 1, int(len(ranked) * 0.99))]


if __name__ == "__main__":
    entry.run(main)
