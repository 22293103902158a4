"""The cost of decoding a pushed exposition: busmon's decoder and prometheus_client's parsers, over the same bodies.

    .venv/bin/python benchmarks/exposition.py [--rounds 9] [--series 200]

The body is prometheus_client's own, of that many series each of a counter, a gauge and a histogram of 15 buckets, in
the text format and in OpenMetrics. busmon's figure includes the points that go to the fold. The other bodies are one
long line each, of two sizes: time that more than doubles is not linear in the body's bytes. CPU time; medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from functools import partial

import entry
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parsed_text

from busmon.errors import EnvelopeError
from busmon.wire.arrival import Arrival
from busmon.wire.prometheus_text import decode

TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
SIZES = (250_000, 500_000)
LONG_LINES: dict[str, Callable[[int], str]] = {
    "one label value of escaped quotes": lambda size: 'a{l="' + '\\"' * (size // 2) + '"} 1\n',
    "labels of one sample": lambda size: "a{" + ",".join(f'l{number:06}="v"' for number in range(size // 12)) + "} 1\n",
    "blanks in a TYPE line": lambda size: "# TYPE" + " " * size + "x counter\nx 1\n",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--series", type=int, default=200)
    args = parser.parse_args()
    registry = registry_of(args.series)
    text = generate_latest(registry)
    openmetrics: bytes = generate_openmetrics(registry)  # type: ignore[no-untyped-call]
    print("| body | prometheus_client | busmon | prometheus_client ÷ busmon |")
    print("| --- | --: | --: | --: |")
    for name, body, content_type, stock in (
        ("text, a line", text, TEXT, parsed_text),
        ("OpenMetrics, a line", openmetrics, OPENMETRICS, parsed_openmetrics),
    ):
        lines = body.count(b"\n") / 1e6
        theirs = seconds(partial(read_by, stock, body), args.rounds) / lines
        ours = seconds(partial(decode_body, body, content_type), args.rounds) / lines
        print(f"| {name} | {theirs:.1f} µs | {ours:.1f} µs | {theirs / ours:.1f} |")
    for name, line in LONG_LINES.items():
        for size in SIZES:
            body = line(size).encode()
            theirs = seconds(partial(read_by, parsed_text, body), 1)
            ours = seconds(partial(decode_body, body, TEXT), 1)
            print(f"| {name}, {size // 1000} kB | {theirs:.3f} s | {ours:.3f} s | {theirs / ours:.0f} |")


def registry_of(series: int) -> CollectorRegistry:
    """Make a registry of a counter, a gauge and a histogram, of this many series each."""
    registry = CollectorRegistry()
    counter = Counter("jobs", "Jobs", ["queue", "status"], registry=registry)
    gauge = Gauge("depth", "Depth", ["queue"], registry=registry)
    histogram = Histogram("wait_seconds", "Waits", ["endpoint", "method"], registry=registry)
    for number in range(series):
        counter.labels(f"queue-{number}", "success").inc(number)
        gauge.labels(f"queue-{number}").set(number)
        histogram.labels(f"/v1/tasks/{number}", "GET").observe(number / 50)
    return registry


def read_by(parser: Callable[[str], Iterable[Metric]], body: bytes) -> None:
    """Have a parser of prometheus_client read a body."""
    list(parser(body.decode()))


def decode_body(body: bytes, content_type: str) -> None:
    """Decode a body; a refused body is measured the same way."""
    try:
        decode(Arrival(body, content_type, None, 1 << 24))
    except EnvelopeError:
        return


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Measure the median of the CPU time of a call."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    entry.run(main)
