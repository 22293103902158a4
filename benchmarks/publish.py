"""The cost of publishing to an agent: the call, its thread, and samples from standard input.

    .venv/bin/python benchmarks/publish.py [--rounds 7] [--seconds 10] [--lines 500000]

- calls: busmon's instruments next to prometheus_client's in-process ones, a statsd line over UDP, and the naive way:
  one confirmed publish a call.
- forks: the look that tells a call whether it runs in a forked process, by the page that the kernel wipes, and by the
  process id.
- thread: CPU of busmon's publishing thread while the program makes 10,000 calls a second on 20 series, everything
  confirmed by a private RabbitMQ node (or that of `BUSMON_AMQP_URL`).
- lines: `busmon publish -`, from its start to its end, everything confirmed.

All in turn in each round; printed are medians over the rounds, ratios of medians of the same run.
"""

import argparse
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import entry
import pika
import prometheus_client as stock

from busmon import Telemetry
from busmon.bus.topology import topology as topologies
from busmon.bus.topology.declare import declare
from busmon.demo.broker import PrivateNode
from busmon.publish import forks
from busmon.settings import load

CALLS = 20_000
NAIVE_CALLS = 300
RATE = 10_000
SLICE_SECONDS = 0.01
BUCKETS = (0.1, 0.5, 1, 2, 5, 10)
LINE = b'{"name": "tasks_processed_total", "labels": {"agent": "analyzer", "status": "success"}, "value": 1}\n'

Calls = dict[str, Callable[[], object]]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=float, default=10.0)
    options.add_argument("--lines", type=int, default=500_000)
    given = options.parse_args()
    with ExitStack() as stack:
        amqp_url = broker(stack)
        calls(amqp_url, given.rounds)
        looks(given.rounds)
        thread(amqp_url, given.seconds, given.rounds)
        lines(amqp_url, given.lines, given.rounds)


def broker(stack: ExitStack) -> str:
    """Start a broker, and declare the topology."""
    settings = load()
    amqp_url = settings.amqp_url
    if "amqp_url" not in settings.origins:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-benchmark-")))
        amqp_url = stack.enter_context(PrivateNode(directory)).amqp_url
    declare(topologies.load(None, settings.exchange), amqp_url, None, {})
    return amqp_url


def calls(amqp_url: str, rounds: int) -> None:
    """Measure the cost of one call of each."""
    with ExitStack() as stack:
        ways = {
            "busmon": stack.enter_context(ours(amqp_url)),
            "prometheus_client": theirs(),
            "statsd": stack.enter_context(statsd()),
            "naive publish": stack.enter_context(naive(amqp_url)),
        }
        took: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for way, of_way in ways.items():
                for call, function in of_way.items():
                    times = NAIVE_CALLS if way == "naive publish" else CALLS
                    took.setdefault((way, call), []).append(seconds_each(function, times))
    print(f"\nµs of one call, medians of {rounds} rounds; in brackets how many times busmon's\n")
    print(f"{'':24}" + "".join(f"{way:>24}" for way in ways))
    for call in ways["busmon"]:
        base = statistics.median(took["busmon", call])
        cells = [took.get((way, call)) for way in ways]
        print(f"{call:24}" + "".join(f"{cell(found, base):>24}" for found in cells))


def cell(took: list[float] | None, base: float) -> str:
    """Word a figure and its ratio."""
    if took is None:
        return ""
    return f"{statistics.median(took) * 1e6:,.2f} ({statistics.median(took) / base:,.1f})"


def seconds_each(function: Callable[[], object], times: int) -> float:
    """Measure the seconds of one call, of the given number of calls."""
    began = time.perf_counter()
    for _ in range(times):
        function()
    return (time.perf_counter() - began) / times


@contextmanager
def ours(amqp_url: str) -> Iterator[Calls]:
    """Yield calls of the SDK's instruments, published while they are measured."""
    with Telemetry("benchmark", amqp_url, lifecycle=False) as telemetry:
        tasks = telemetry.counter("tasks_processed_total", labelnames=["agent", "status"])
        bound = tasks.labels("a", "success")
        size = telemetry.gauge("queue_size", labelnames=["queue"]).labels("q")
        seconds = telemetry.histogram("task_duration_seconds", labelnames=["agent"]).labels("a")
        sampled = telemetry.histogram("step_seconds", buckets=BUCKETS, one_in=10)
        sizes = telemetry.summary("request_size_bytes")
        yield {
            "counter, bound": bound.inc,
            "counter, labels()": lambda: tasks.labels("a", "success").inc(),
            "counter, labels(k=v)": lambda: tasks.labels(agent="a", status="success").inc(),
            "gauge, bound": lambda: size.set(3),
            "histogram, bound": lambda: seconds.observe(0.3),
            "histogram, 1 in 10": lambda: sampled.observe(0.3),
            "summary": lambda: sizes.observe(300),
        }


def theirs() -> Calls:
    """Yield prometheus_client's calls, in memory."""
    registry = stock.CollectorRegistry()
    tasks = stock.Counter("tasks", "Tasks", ["agent", "status"], registry=registry)
    bound = tasks.labels("a", "success")
    size = stock.Gauge("size", "Size", ["queue"], registry=registry).labels("q")
    seconds = stock.Histogram("seconds", "Seconds", ["agent"], buckets=BUCKETS, registry=registry).labels("a")
    sizes = stock.Summary("sizes", "Sizes", registry=registry)
    return {
        "counter, bound": bound.inc,
        "counter, labels()": lambda: tasks.labels("a", "success").inc(),
        "counter, labels(k=v)": lambda: tasks.labels(agent="a", status="success").inc(),
        "gauge, bound": lambda: size.set(3),
        "histogram, bound": lambda: seconds.observe(0.3),
        "summary": lambda: sizes.observe(300),
    }


@contextmanager
def statsd() -> Iterator[Calls]:
    """Yield calls that send lines over UDP, as every statsd client sends them; without sampling or buffering."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reader, socket.socket(*_UDP) as sender:
        reader.bind(("127.0.0.1", 0))
        address = reader.getsockname()
        yield {
            "counter, bound": lambda: sender.sendto(b"tasks.a.success:1|c", address),
            "counter, labels()": lambda: sender.sendto(f"tasks.{'a'}.{'success'}:{1}|c".encode(), address),
            "gauge, bound": lambda: sender.sendto(f"size.q:{3}|g".encode(), address),
            "histogram, bound": lambda: sender.sendto(f"seconds.a:{300}|ms".encode(), address),
        }


_UDP = (socket.AF_INET, socket.SOCK_DGRAM)


@contextmanager
def naive(amqp_url: str) -> Iterator[Calls]:
    """Yield a publish for each call, confirmed before the next."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=2, headers={"source": "naive"})
        yield {"counter, bound": lambda: channel.basic_publish("telemetry", "a.task", LINE, properties, mandatory=True)}


def looks(rounds: int) -> None:
    """Measure the cost of the check for a fork, without the call around it."""
    by_id = forks.ProcessIdMark()
    by_id[0] = 1
    ways: Calls = {"page": lambda: forks.here[0], "process id": lambda: by_id[0], "nothing": lambda: None}
    took = {way: [seconds_each(look, CALLS) for _ in range(rounds)] for way, look in ways.items()}
    base = statistics.median(took.pop("nothing"))
    costs = ", ".join(f"{(statistics.median(times) - base) * 1e9:,.0f} ns by the {way}" for way, times in took.items())
    print(f"\na look for a fork, in each call: {costs}")


def thread(amqp_url: str, seconds: float, rounds: int) -> None:
    """Measure the publishing thread's share of a core at 10,000 calls a second."""
    shares = [thread_share(amqp_url, seconds / rounds * 2) for _ in range(rounds)]
    print(f"\npublishing thread at {RATE:,} calls a second: {statistics.median(shares):.2%} of a core")


def thread_share(amqp_url: str, seconds: float) -> float:
    """Divide CPU time by wall time, in one run; its connection is open when the clocks start."""
    with Telemetry("benchmark", amqp_url, lifecycle=False) as telemetry:
        tasks = telemetry.counter("tasks_processed_total", labelnames=["agent", "status"])
        durations = telemetry.histogram("task_duration_seconds", labelnames=["agent"])
        tasks.labels("a", "success").inc()
        telemetry.flush(30)
        publisher = next(found for found in threading.enumerate() if found.name == "busmon-publisher")
        clock = time.pthread_getcpuclockid(publisher.ident or 0)
        began, cpu = time.perf_counter(), time.clock_gettime(clock)
        made = 0
        while (elapsed := time.perf_counter() - began) < seconds:
            while made < elapsed * RATE:
                tasks.labels(f"agent-{made % 10}", "success").inc()
                durations.labels(f"agent-{made % 10}").observe(0.3)
                made += 2
            time.sleep(SLICE_SECONDS)
        telemetry.flush(30)
        return (time.clock_gettime(clock) - cpu) / (time.perf_counter() - began)


def lines(amqp_url: str, count: int, rounds: int) -> None:
    """Measure samples a second through `busmon publish -`."""
    with tempfile.TemporaryFile() as samples:
        samples.write(LINE * count)
        took = []
        for _ in range(min(rounds, 3)):
            samples.seek(0)
            began, cpu = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "busmon", "publish", "-", "--amqp-url", amqp_url]
            subprocess.run(command, stdin=samples, check=True, capture_output=True)
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = used.ru_utime + used.ru_stime - cpu.ru_utime - cpu.ru_stime
            took.append((time.perf_counter() - began, spent))
    wall, spent = (statistics.median(each) for each in zip(*took, strict=True))
    print(f"\nbusmon publish -: {count:,} samples confirmed, its start and end included: ", end="")
    print(f"{count / wall:,.0f} a second, {spent / count * 1e6:.1f} µs of its CPU each")


if __name__ == "__main__":
    entry.run(main)
