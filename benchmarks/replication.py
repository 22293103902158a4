"""The cost of replication: the rate of an owner, compared with a worker without replication, and a follower's CPU.

    .venv/bin/python benchmarks/replication.py [--envelopes 20000] [--rounds 3] [--samples 5] [--seconds 15] [--cluster]

- `off`: one worker, as a fleet without replication runs it.
- `stream`: the owner of the shard, and a follower with a directory of its own, as two hosts run them.

Each drains the same backlog of one shard on a private RabbitMQ node, in turn in every round. The rate counts from the
first collection that shows an envelope to the first that shows all. CPU is of the worker's process, user and system.
The broker runs on the same cores. Figures are medians over the rounds; ratios are of the same run. With `--cluster` the
broker is a cluster of three nodes in network namespaces, as `make cluster` has it; that takes root.

Then agents publish at half of the replicated rate, and every 20 ms a probe: `visible` is from just before a probe's
publish to the end of the first collection that has it, in the directory of the owner and in that of the follower.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import backlog
import children
import entry
import pika
from latency import PROBE, START_SECONDS, publish

from busmon import status
from busmon.bus.topology import topology as topologies
from busmon.bus.topology.declare import declare
from busmon.demo.broker import PrivateNode
from busmon.plurals import format_count
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings, load
from tests.cluster import trial
from tests.cluster.node import AMQP_PORT

CONSUMED = "busmon_envelopes_consumed_total"
LOOK_SECONDS = 0.05
DRAIN_SECONDS = 120.0
LOAD = 0.5
MODES = ("off", "stream")


class Run(NamedTuple):
    """One drained backlog: envelopes a second, and the CPU seconds of the owner and of the follower."""

    rate: float
    owner: float
    follower: float


class Host(NamedTuple):
    """A worker with a registry directory of its own."""

    process: subprocess.Popen[bytes]
    exposition: Exposition
    registry_dir: Path

    def value(self, name: str) -> float:
        """Read a counter."""
        return self.exposition.collect().value(name) or 0.0

    def cpu_seconds(self) -> float:
        """Return the CPU time that the process has taken."""
        parts = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")

    def replica_states(self) -> list[str]:
        """Return the states of the replicas, as the worker last told."""
        shards = [shard for each in status.read(self.registry_dir).workers for shard in each.shards]
        return [shard.replica.state if shard.replica else shard.state for shard in shards]


@contextmanager
def host(settings: Settings, scratch: Path, name: str) -> Iterator[Host]:
    """Run a worker of shard 0 as a host of this name."""
    with tempfile.TemporaryDirectory(dir=scratch) as registry_dir:
        settings = replace(settings, registry_dir=Path(registry_dir), host_name=name)
        environment = {**os.environ, **settings.environment(), "BUSMON_LOG_LEVEL": "error"}
        command = [sys.executable, "-m", "busmon", "worker", "--shards", "0"]
        with children.running(command, env=environment) as process:
            yield Host(process, Exposition(Path(registry_dir)), Path(registry_dir))


def wait_until_ready(hosts: Sequence[Host], expected: Sequence[str]) -> None:
    """Wait until each host's replica is in the expected state."""
    deadline = time.monotonic() + START_SECONDS
    while [each.replica_states() for each in hosts] != [[state] for state in expected]:
        if time.monotonic() > deadline:
            raise SystemExit(f"after {START_SECONDS:g} s the hosts are {[each.replica_states() for each in hosts]}")
        time.sleep(LOOK_SECONDS)


def declare_topology(amqp_url: str, scratch: Path, mode: str) -> Settings:
    """Declare a topology of one shard; return the settings of its workers."""
    path = scratch / f"{mode}.toml"
    path.write_text(topologies.find_built_in().read_text().replace("\nshards = 4", "\nshards = 1"))
    given = {"topology": str(path), "amqp_url": amqp_url, "exchange": f"replication.{mode}", "replication": mode}
    settings = load(given)
    declare(topologies.load(path, settings.exchange, mode), amqp_url, None, {})
    return settings


def drain(settings: Settings, scratch: Path, envelopes: int, samples: int) -> Run:
    """Have the hosts of one mode drain a backlog; the first is the owner."""
    user = pika.URLParameters(settings.amqp_url).credentials.username
    filled = backlog.envelopes(envelopes, samples, "tables", backlog.in_turn, user)
    with ExitStack() as stack:
        hosts = start(settings, scratch, stack)
        before = hosts[0].value(CONSUMED)
        # Stopped meanwhile, so that the publisher takes no core of theirs.
        for each in hosts:
            each.process.send_signal(signal.SIGSTOP)
        backlog.publish(settings.amqp_url, settings.exchange, filled)
        for each in hosts:
            each.process.send_signal(signal.SIGCONT)
        return watch(hosts, before, envelopes)


def start(settings: Settings, scratch: Path, stack: ExitStack) -> list[Host]:
    """Start the hosts of one mode: the owner, and with replication a follower after it."""
    owner = stack.enter_context(host(settings, scratch, "owner"))
    if settings.replication == "off":
        wait_until_ready([owner], ["consuming"])
        return [owner]
    wait_until_ready([owner], ["owning"])
    follower = stack.enter_context(host(settings, scratch, "follower"))
    wait_until_ready([owner, follower], ["owning", "following"])
    return [owner, follower]


def watch(hosts: Sequence[Host], before: float, envelopes: int) -> Run:
    """Watch until every host shows all envelopes; measure from the first that the owner shows."""
    owner, cpu, began, counted = hosts[0], [0.0] * len(hosts), 0.0, 0.0
    deadline = time.monotonic() + DRAIN_SECONDS
    ended = rate = 0.0
    while not ended or any(each.value(CONSUMED) - before < envelopes for each in hosts):
        if time.monotonic() > deadline:
            raise SystemExit(f"{owner.value(CONSUMED) - before:,.0f} of {envelopes:,} envelopes were counted")
        done = owner.value(CONSUMED) - before
        if done and not began:
            began, counted, cpu = time.monotonic(), done, [each.cpu_seconds() for each in hosts]
        if done >= envelopes and not ended:
            ended = time.monotonic()
            rate = (envelopes - counted) / (ended - began)
        time.sleep(LOOK_SECONDS)
    taken = [each.cpu_seconds() - first for each, first in zip(hosts, cpu, strict=True)]
    return Run(rate, taken[0], taken[1] if len(taken) > 1 else 0.0)


def measure_visible(settings: Settings, scratch: Path, per_second: float, seconds: float) -> list[list[float]]:
    """Return the delays of all probes, at the owner and at the follower."""
    with ExitStack() as stack:
        hosts = start(settings, scratch, stack)
        pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
        firsts = [each.value(PROBE) for each in hosts]
        seen: list[list[float]] = [[] for _ in hosts]
        publisher = pool.submit(publish, settings, per_second, seconds)
        deadline = time.time() + seconds + START_SECONDS
        while not publisher.done() or any(len(times) < len(publisher.result()[1]) for times in seen):
            if time.time() > deadline:
                raise SystemExit(f"{[len(times) for times in seen]} probes were seen, and more were published")
            for each, first, times in zip(hosts, firsts, seen, strict=True):
                counted = int(each.value(PROBE) - first)
                times.extend([time.time()] * (counted - len(times)))
            time.sleep(LOOK_SECONDS)
        _, probes = publisher.result()
        return [[at - published for at, published in zip(times, probes, strict=True)] for times in seen]


def report(runs: dict[str, list[Run]], samples: int) -> float:
    """Print the rates; return the replicated one."""
    rates = {mode: statistics.median(run.rate for run in found) for mode, found in runs.items()}
    print(f"{format_count(samples, 'sample')} an envelope, medians of {len(runs['off'])} rounds")
    print(f"{'':10}{'envelopes/s':>14}{'of off':>10}{'follower CPU ÷ owner CPU':>28}")
    for mode, found in runs.items():
        share = statistics.median(run.follower / run.owner for run in found)
        told = f"{share:.0%}" if mode == "stream" else "-"
        print(f"{mode:10}{rates[mode]:>14,.0f}{rates[mode] / rates['off']:>10.0%}{told:>28}")
    return rates["stream"]


def run_on_cluster(arguments: Sequence[str]) -> None:
    """Run this program on a host of a network of its own, in which three nodes form a cluster."""
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory, trial.stand(Path(directory)) as stand:
        amqp_url = f"amqp://guest:guest@{stand.nodes[0].host.ip}:{AMQP_PORT}/%2F"
        print(f"RabbitMQ {stand.version}, a cluster of {len(stand.nodes)} nodes", flush=True)
        client = stand.network.hosts[trial.CLIENTS]
        subprocess.run(client.command(sys.executable, __file__, *arguments, "--amqp-url", amqp_url), check=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envelopes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of the publishing at half load")
    parser.add_argument("--amqp-url", help="a broker to use; by default a private node")
    parser.add_argument("--cluster", action="store_true", help="use a cluster of three private nodes; takes root")
    args = parser.parse_args()
    if args.cluster:
        run_on_cluster([argument for argument in sys.argv[1:] if argument != "--cluster"])
        return
    with tempfile.TemporaryDirectory(prefix="busmon-benchmark-") as directory, ExitStack() as stack:
        scratch = Path(directory)
        amqp_url = args.amqp_url or stack.enter_context(PrivateNode(scratch / "node")).amqp_url
        modes = {mode: declare_topology(amqp_url, scratch, mode) for mode in MODES}
        runs: dict[str, list[Run]] = {mode: [] for mode in MODES}
        for _ in range(args.rounds):
            for mode, settings in modes.items():
                runs[mode].append(drain(settings, scratch, args.envelopes, args.samples))
        rate = report(runs, args.samples)
        per_second = rate * LOAD
        print(f"\nat {per_second:,.0f} envelopes/s, half of that")
        print(f"{'visible at':>12}{'p50':>12}{'p99':>12}{'max':>12}")
        visible = measure_visible(modes["stream"], scratch, per_second, args.seconds)
        for name, delays in zip(("the owner", "a follower"), visible, strict=True):
            quantiles = statistics.quantiles(delays, n=100, method="inclusive")
            figures = (quantiles[49], quantiles[98], max(delays))
            print(f"{name:>12}" + "".join(f"{value:10.3f} s" for value in figures))


if __name__ == "__main__":
    entry.run(main)
