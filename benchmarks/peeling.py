"""The cost of taking deliveries apart: from the bytes of a socket to the deliveries that a worker's lane takes.

    .venv/bin/python benchmarks/peeling.py [--deliveries 20000] [--rounds 9]

*pika* is its own frame decoder, which calls a consumer for each delivery. *pure* and *compiled* are the two peelers of
`busmon/bus/frames`; the latter has to be built. Each way gets the same bytes of envelopes of 1 sample, in reads that
hold so many deliveries and the beginning of another. All take turns in every round, in one process; printed are medians
of CPU time, user and system, of a delivery.

The SDK's properties have two headers; those of a user state the user and the time, too. *another* is a publisher with
one header, and with ids that aren't sequences.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import backlog
import entry
import fleet
import pika
from pika import frame, spec
from pika.adapters.select_connection import SelectConnection
from pika.channel import Channel

from busmon import compiled
from busmon.bus.frames import peeler
from busmon.bus.frames.peeling import PeelingConnection

CHANNEL = 1
KEY = "analyzer.task"
READS = (1, 10, 100, 500)
_MODULE = "busmon.bus.frames.compiled_peeler"

Envelopes = Iterator[tuple[bytes, pika.BasicProperties]]
PUBLISHERS: dict[str, Callable[[int], Envelopes]] = {
    "SDK": lambda count: backlog.envelopes(count, 1, "tables"),
    "SDK, a user": lambda count: backlog.envelopes(count, 1, "tables", user_id="agents"),
    "another": lambda count: fleet.envelopes(count, 1, "tables"),
}


class _Peeled(PeelingConnection):
    """A connection without a socket, all of whose deliveries are peeled."""

    def __init__(self, way: Any) -> None:
        super().__init__(internal_connection_workflow=False)
        self.count = 0
        self._peeler = way.Peeler()
        self.peel(CHANNEL, 0, self._take)

    def _take(self, deliveries: Any) -> None:
        self.count += len(deliveries)


class _Decoded(SelectConnection):
    """A connection without a socket, all of whose deliveries pika decodes."""

    def __init__(self) -> None:
        super().__init__(internal_connection_workflow=False)
        self.count = 0
        channel = Channel(self, CHANNEL, lambda _: None)
        channel._state = Channel.OPEN  # noqa: SLF001 - no broker opens it
        channel._consumers[peeler.CONSUMER_TAG] = self._take  # noqa: SLF001 - nor consumes
        self._channels[CHANNEL] = channel

    def _take(self, *_: Any) -> None:
        self.count += 1


def measure(way: Callable[[], _Peeled | _Decoded], reads: list[bytes], count: int) -> float:
    """Return the microseconds of a delivery."""
    connection = way()
    gc.collect()
    began = time.process_time()
    for read in reads:
        connection._on_data_available(read)  # noqa: SLF001 - pika's adapters call it
    took = time.process_time() - began
    if connection.count != count:
        raise SystemExit(f"{count} deliveries were sent, and {connection.count} arrived")
    return took / count * 1e6


def _encode(envelopes: Envelopes) -> Iterator[bytes]:
    """Return the frames of a delivery of each envelope."""
    for tag, (body, properties) in enumerate(envelopes, 1):
        method = spec.Basic.Deliver(peeler.CONSUMER_TAG, tag, redelivered=False, exchange="telemetry", routing_key=KEY)
        frames = frame.Method(CHANNEL, method), frame.Header(CHANNEL, len(body), properties), frame.Body(CHANNEL, body)
        yield b"".join(each.marshal() for each in frames)


def _cut(deliveries: list[bytes], size: int) -> list[bytes]:
    """Join the deliveries to reads of `size` deliveries, each of which ends in the next one's header."""
    stream = b"".join(deliveries)
    ends = [0]
    for at in range(0, len(deliveries), size):
        ends.append(ends[-1] + sum(map(len, deliveries[at : at + size])))
    cuts = [0, *(end + len(deliveries[0]) // 3 for end in ends[1:-1]), len(stream)]
    return [stream[start:end] for start, end in pairwise(cuts)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--deliveries", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    ways: dict[str, Callable[[], _Peeled | _Decoded]] = {"pika": _Decoded, "pure": lambda: _Peeled(peeler)}
    if built := compiled.find(_MODULE):
        ways["compiled"] = lambda: _Peeled(built)
    print(f"{'CPU µs a delivery of':24}{'in a read':>10}" + "".join(f"{name:>10}" for name in ways))
    for publisher, envelopes in PUBLISHERS.items():
        deliveries = [*_encode(envelopes(args.deliveries))]
        for size in READS:
            reads = _cut(deliveries, size)
            rounds = [[measure(way, reads, args.deliveries) for way in ways.values()] for _ in range(args.rounds)]
            medians = map(statistics.median, zip(*rounds, strict=True))
            print(f"{publisher:24}{size:>10}" + "".join(f"{each:>10.2f}" for each in medians), flush=True)


if __name__ == "__main__":
    entry.run(main)
