"""The cost of consuming: the same backlog drained by busmon's worker, by obvious programs, and by C.

    .venv/bin/python benchmarks/consume.py [--envelopes 20000] [--rounds 3] [--form tables|samples] [--sizes 1,5,100]

- `naive`: BlockingConnection, orjson, prometheus_client's `labels().inc()`, one ack for each delivery.
- `faststream`: FastStream with its Prometheus middleware, and the same counting.
- `floor`: pika's SelectConnection, `orjson.loads`, one ack for 500 deliveries; nothing is counted.
- `busmon`: the worker as it runs in a fleet: decode, ledger, fold, journal, value files, ack after the commit.
- `busmon x2`: two of them, each with a shard of its own.
- `C`: `drain.c` on librabbitmq, which throws everything away; where gcc and librabbitmq-dev are installed.

Each program runs in processes of its own, all of them in turn in every round, on quorum queues of a private RabbitMQ
node. Throughput counts from the first delivery to the last ack; CPU is the consumers' own, user and system, over that
span. The broker runs on the same cores; the last column is the number of busy cores, whatever kept them busy. Figures
are medians over the rounds; ratios are of the same run.
"""

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import backlog
import children
import entry
import pika
from drains import PROGRAMS, Figures

from busmon.bus.topology import topology as topologies
from busmon.bus.topology.declare import declare
from busmon.demo.broker import PrivateNode
from busmon.plurals import format_count
from busmon.settings import Settings, load

HERE = Path(__file__).parent
LOOK_SECONDS = 0.01
PAIR = "busmon x2"
C = "C"


class Bench:
    """The broker with the topology of one shard and that of two, and what is run against them.

    Attributes:
        one_shard: the settings of the former.
        programs: what can be run.
        under: the command that Python's programs are run under, such as a profiler; none by default.
    """

    def __init__(self, amqp_url: str, scratch: Path) -> None:
        self._amqp_url = amqp_url
        self._scratch = scratch
        self._numbers = itertools.count(1)
        self._sides = {shards: self.declare(shards) for shards in (1, 2)}
        self._c = _compile(scratch)
        self.one_shard = self._sides[1]
        self.under: list[str] = []
        self.programs = [*_runnable(), PAIR, *([C] if self._c else [])]

    def declare(self, shards: int) -> Settings:
        """Declare a topology of so many shards with an exchange and queues of its own, and return its settings."""
        exchange = f"benchmark{next(self._numbers)}.shards{shards}"
        path = self._scratch / f"{exchange}.toml"
        path.write_text(topologies.find_built_in().read_text().replace("\nshards = 4", f"\nshards = {shards}"))
        settings = load({"topology": str(path), "amqp_url": self._amqp_url, "exchange": exchange})
        declare(topologies.load(settings.topology, settings.exchange), settings.amqp_url, None, {})
        return settings

    def run(
        self,
        program: str,
        envelopes: int,
        samples: int,
        form: str,
        pick: backlog.Pick = backlog.in_turn,
        **changed: Any,
    ) -> Figures:
        """Publish a backlog as the SDK does, have the program drain it, and return what that took."""
        with tempfile.TemporaryDirectory(dir=self._scratch) as registry_dir:
            settings = replace(
                self._sides[2 if program == PAIR else 1], **{"registry_dir": Path(registry_dir), **changed}
            )
            filled = backlog.envelopes(
                envelopes, samples, form, pick, pika.URLParameters(settings.amqp_url).credentials.username
            )
            backlog.publish(settings.amqp_url, settings.exchange, filled)
            return self._drain(program, settings, envelopes)

    def drain_floor(self, filled: Iterable[tuple[bytes, pika.BasicProperties]]) -> float:
        """Publish these envelopes, have `floor` drain them, and return its CPU seconds."""
        settings, made = self.one_shard, [*filled]
        backlog.publish(settings.amqp_url, settings.exchange, made)
        return self._drain("floor", settings, len(made))["cpu"]

    def _drain(self, program: str, settings: Settings, envelopes: int) -> Figures:
        environment = {**os.environ, **settings.environment(), "BUSMON_LOG_LEVEL": "error"}
        with Cores() as cores, ExitStack() as stack:
            started = [
                stack.enter_context(children.running(command, env=environment, stdout=subprocess.PIPE))
                for command in self._commands(program, settings, envelopes)
            ]
            ended = [process.communicate()[0] for process in started]
        figures: list[Figures] = [
            next(json.loads(line) for line in printed.splitlines() if line.startswith(b"{")) for printed in ended
        ]
        begin, end = min(each["begin"] for each in figures), max(each["end"] for each in figures)
        sums = {what: sum(each.get(what, 0.0) for each in figures) for what in ("cpu", "bytes")}
        return {"wall": end - begin, "cores": cores.busy(begin, end), **sums}

    def _commands(self, program: str, settings: Settings, envelopes: int) -> list[list[str]]:
        queues = _wait_for_backlog(settings, envelopes)
        return [self._command(program, settings, queue, count) for queue, count in queues]

    def _command(self, program: str, settings: Settings, queue: str, count: int) -> list[str]:
        if program == C:
            url = pika.URLParameters(settings.amqp_url)
            login = url.credentials
            where = [url.host, str(url.port), login.username, login.password, url.virtual_host]
            return [str(self._c), *where, queue, str(count)]
        name = "busmon" if program == PAIR else program
        return [*self.under, sys.executable, str(HERE / "drains.py"), name, queue, str(count)]


class Cores:
    """The number of busy cores of the machine, from its start to its end."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, float]] = []
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._watch.join()

    def busy(self, begin: float, end: float) -> float:
        """Compute the mean between two times, in seconds since the epoch."""
        (first, idle), (last, idle_then) = (min(self._seen, key=lambda seen: abs(seen[0] - at)) for at in (begin, end))
        return (os.cpu_count() or 1) - (idle_then - idle) / max(last - first, LOOK_SECONDS)

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            idle, waiting = Path("/proc/stat").read_text().split(maxsplit=6)[4:6]  # of all cores, as proc(5) has it
            self._seen.append((time.time(), (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")))


def _wait_for_backlog(settings: Settings, envelopes: int) -> Iterator[tuple[str, int]]:
    """Wait until the queues hold the whole backlog; return each queue with its number of messages."""
    topology = topologies.load(settings.topology, settings.exchange)
    queues = [topology.fold_queue(shard) for shard in range(topology.shards)]
    connection = pika.BlockingConnection(pika.URLParameters(settings.amqp_url))
    try:
        channel = connection.channel()
        counts: list[int] = []
        while sum(counts) != envelopes:
            counts = [channel.queue_declare(queue, passive=True).method.message_count for queue in queues]
    finally:
        connection.close()
    return zip(queues, counts, strict=True)


def _runnable() -> list[str]:
    """List the programs whose libraries are installed, and say of the others what to install."""
    if find_spec("faststream"):
        return [*PROGRAMS]
    print(f"faststream is left out, for it isn't installed; run: {entry.INSTALL}", file=sys.stderr)
    return [name for name in PROGRAMS if name != "faststream"]


def _compile(scratch: Path) -> Path | None:
    compiler, program = shutil.which("gcc"), scratch / "drain"
    if compiler is None:
        return None
    done = subprocess.run(
        [compiler, "-O2", "-o", program, HERE / "drain.c", "-lrabbitmq"], capture_output=True, check=False
    )
    return program if done.returncode == 0 else None


def report(figures: Mapping[str, Sequence[Figures]], envelopes: int, samples: int) -> None:
    """Print one size's table."""
    cpu = {name: statistics.median(f["cpu"] for f in runs) / envelopes * 1e6 for name, runs in figures.items()}
    rate = {name: envelopes / statistics.median(f["wall"] for f in runs) for name, runs in figures.items()}
    size, rounds = format_count(samples, "sample"), len(figures["floor"])
    print(f"\n{size} an envelope, {envelopes} envelopes, medians of {rounds} rounds")
    heads: list[Any] = [
        "envelopes/s",
        "samples/s",
        "CPU µs/env.",
        "CPU ÷ floor",
        "rate ÷ naive",
        "rate ÷ C",
        "cores busy",
    ]
    print(f"{'':10}" + "".join(f"{head:>14}" for head in heads))
    for name in figures:
        of_c = f"{rate[name] / rate[C]:.2f}" if C in rate else "-"
        row = [f"{rate[name]:,.0f}", f"{rate[name] * samples:,.0f}", f"{cpu[name]:.1f}"]
        row += [f"{cpu[name] / cpu['floor']:.2f}", f"{rate[name] / rate['naive']:.1f}", of_c]
        row += [f"{statistics.median(f['cores'] for f in figures[name]):.1f}"]
        print(f"{name:10}" + "".join(f"{cell:>14}" for cell in row))


@contextmanager
def bench() -> Iterator[Bench]:
    """Set up a bench on a private node, or on the broker that `BUSMON_AMQP_URL` names."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory:
        scratch, settings = Path(directory), load()
        if settings.origin("amqp_url") != "default":
            yield Bench(settings.amqp_url, scratch)
            return
        with PrivateNode(scratch / "node") as node:
            yield Bench(node.amqp_url, scratch)


def main() -> None:
    """Run every program on every backlog, in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", default="1,5,100")
    parser.add_argument("--form", choices=("tables", "samples"), default="tables")
    args = parser.parse_args()
    with bench() as side:
        for samples in map(int, args.sizes.split(",")):
            figures: dict[str, list[Figures]] = {name: [] for name in side.programs}
            for _ in range(args.rounds):
                for name in side.programs:
                    figures[name].append(side.run(name, args.envelopes, samples, args.form))
            report(figures, args.envelopes, samples)


if __name__ == "__main__":
    entry.run(main)
