"""The cost of a hostile publisher to the others: bytes sent, delay of their envelopes, memory and scrape time.

    .venv/bin/python benchmarks/hostile.py [--only NAME,…] [--seconds 15]

For each attack a fleet with the settings as shipped runs on a private RabbitMQ node, with an honest user and an
attacker. The honest user publishes five envelopes a second from a source of each shard, so whatever shard the attack
hits has a victim. Those sources are found first, and each shard's file is looked at before the attack. The exporter is
asked for the victims' totals ten times a second; a delay is the time from a publish to the first answer that counts it,
and the worst of all shards is shown. The attack is made before, and published with confirms, each as soon as the broker
took the one before. "nothing" is a run without an attack: on a busy machine its delay is a part of each other one. CPU
time is that of all workers and that of the exporter, until the last envelope is counted. Memory is what each process
has at most more than before the attack; the scrape is of everything; the log is what all processes wrote.
The exit status is 1 where a bound is broken.
"""

import argparse
import itertools
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import entry
import orjson
import pika
from attacks import ATTACKER, ATTACKS, VICTIM_AGENT, Publish, make, measure_bytes
from pika.adapters.blocking_connection import BlockingChannel
from watched import SHARDS, START_SECONDS, TOTAL, Fleet

from busmon import extras
from busmon.demo.broker import PrivateNode

COLUMNS = (
    *("attack", "sent", "worst delay", "CPU of workers", "of exporter", "worker", "exporter", "scrape", "log"),
    *("restarts", "held"),
)
PROBE_SECONDS = 0.1
PUBLISH_SECONDS = 0.2
CANDIDATES = 48
LOST_SECONDS = 120.0
"""An envelope that isn't counted so long after the attack is over has this delay or more."""

MAX_DELAY_SECONDS, MAX_MORE_BYTES, MAX_MORE_SCRAPE_SECONDS, MAX_LOG_BYTES = 5.0, 300e6, 1.0, 1e6
HONEST = "honest"
"""The honest user."""


@dataclass(slots=True)
class Seen:
    """The cost of one attack.

    Attributes:
        sent_bytes: in bodies and their properties.
        sent: bodies.
        delays: of the honest user's envelopes by source, in seconds.
        more_bytes: of each process, at most.
        scrape_seconds: of all families, before and since.
        restarts: of processes.
        cpu_seconds: of each process, user and system.
        log_bytes: that all processes wrote.
    """

    sent_bytes: int = 0
    sent: int = 0
    delays: dict[str, list[float]] = field(default_factory=dict)
    more_bytes: dict[str, int] = field(default_factory=dict)
    scrape_seconds: list[float] = field(default_factory=list)
    restarts: int = 0
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    log_bytes: int = 0

    @property
    def worst_delay(self) -> float:
        """The longest delay of any shard's victim; endless where a shard has none that was counted."""
        return max(max(delays, default=float("inf")) for delays in self.delays.values())

    @property
    def worker_bytes(self) -> int:
        """The memory that the worker took that grew most."""
        return max((size for process, size in self.more_bytes.items() if process != "exporter"), default=0)

    @property
    def worker_cpu_seconds(self) -> float:
        """The CPU time that all workers took."""
        return sum(seconds for process, seconds in self.cpu_seconds.items() if process != "exporter")

    @property
    def more_scrape_seconds(self) -> float:
        """How much longer than the first the longest scrape took."""
        first, *rest = self.scrape_seconds
        return max(rest) - first

    @property
    def is_held(self) -> bool:
        """Tell if every bound was held."""
        return (
            self.worst_delay < MAX_DELAY_SECONDS
            and max(self.worker_bytes, self.more_bytes.get("exporter", 0)) < MAX_MORE_BYTES
            and self.more_scrape_seconds < MAX_MORE_SCRAPE_SECONDS
            and self.log_bytes < MAX_LOG_BYTES
            and not self.restarts
        )

    def row(self, attack: str) -> str:
        """Word a row of the table."""
        worker, exporter = self.worker_bytes / 1e6, self.more_bytes.get("exporter", 0) / 1e6
        return (
            f"| {attack} | {self.sent_bytes / 1e6:.2f} MB in {self.sent:,} | {self.worst_delay:.2f} s "
            f"| {self.worker_cpu_seconds:.1f} s | {self.cpu_seconds.get('exporter', 0):.1f} s "
            f"| +{worker:.0f} MB | +{exporter:.0f} MB | {self.more_scrape_seconds:+.2f} s "
            f"| +{self.log_bytes / 1e3:.0f} kB | {self.restarts} "
            f"| {'yes' if self.is_held else 'no'} |"
        )


class Honest:
    """A user with a source in each shard that goes on publishing, and whoever looks for what it published."""

    def __init__(self, fleet: Fleet, amqp_url: str, sources: Sequence[str], seen: Seen) -> None:
        self._fleet = fleet
        self._url = amqp_url
        self._seen = seen
        self._published: dict[str, list[float]] = {source: [] for source in sources}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._publish, self._look)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _publish(self) -> None:
        with _channel(self._url) as channel:
            for number in itertools.count(1):
                if self._over.wait(PUBLISH_SECONDS):
                    break
                for source, published in self._published.items():
                    _publish_start(channel, source, number)
                    published.append(time.monotonic())

    def _look(self) -> None:
        """Note the delay of each envelope that is counted since the last look; of those that never are, until now."""
        found = dict.fromkeys(self._published, 0)
        deadline = None
        while deadline is None or (self._is_missing(found) and time.monotonic() < deadline):
            totals = self._fleet.totals()
            now = time.monotonic()
            for source, published in self._published.items():
                total = max(found[source], totals.get(source, 0))
                self._seen.delays.setdefault(source, []).extend(now - at for at in published[found[source] : total])
                found[source] = total
            if self._over.is_set() and deadline is None:
                deadline = now + LOST_SECONDS
            time.sleep(PROBE_SECONDS)
        for source, published in self._published.items():
            self._seen.delays[source] += [time.monotonic() - at for at in published[found[source] :]]

    def _is_missing(self, found: dict[str, int]) -> bool:
        return any(found[source] < len(published) for source, published in self._published.items())


@contextmanager
def _channel(amqp_url: str) -> Iterator[BlockingChannel]:
    """Open a channel with confirms on a connection of its own."""
    with closing(pika.BlockingConnection(pika.URLParameters(amqp_url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def _publish_start(channel: BlockingChannel, source: str, number: int) -> None:
    """Publish one start of the agent that is named as the source."""
    sample = {"name": TOTAL, "labels": {"agent": source}, "value": 1}
    body = orjson.dumps({"v": 1, "source": source, "agent": VICTIM_AGENT, "samples": [sample]})
    properties = pika.BasicProperties(
        content_type="application/json",
        message_id=f"{source}:{number}",
        app_id=VICTIM_AGENT,
        user_id=HONEST,
        headers={"source": source},
    )
    channel.basic_publish("telemetry", "honest.task", body, properties, mandatory=True)


def find_victims(node: PrivateNode, directory: Path) -> list[str]:
    """Find a source of each shard. The same ring in each virtual host gives a source the same shard."""
    vhost = _vhost(node)
    candidates = [f"{VICTIM_AGENT}-{number}" for number in range(CANDIDATES)]
    with closing(Fleet(directory, node.amqp_url.replace("%2F", vhost))) as fleet:
        with _channel(_user(node, vhost, HONEST, "^telemetry$")) as channel:
            for source in candidates:
                _publish_start(channel, source, 1)
        deadline = time.monotonic() + START_SECONDS
        while len(fleet.totals()) < len(candidates) and time.monotonic() < deadline:
            time.sleep(PROBE_SECONDS)
        return [next(filter(partial(fleet.has_counted, shard), candidates)) for shard in range(SHARDS)]


def measure(node: PrivateNode, directory: Path, attack: str, victims: Sequence[str], seconds: float) -> Seen:
    """Run one attack for at most so many seconds, and as long again without it."""
    vhost = _vhost(node)
    honest, attacker = (_user(node, vhost, name, "^telemetry$") for name in (HONEST, ATTACKER))
    publishes, seen = [(measure_bytes(each), each) for each in make(attack, victims)], Seen()
    with closing(Fleet(directory, node.amqp_url.replace("%2F", vhost))) as fleet:
        before, cpu_before, log_before = fleet.resident(), fleet.cpu_seconds(), fleet.log_bytes()
        seen.scrape_seconds.append(fleet.scrape_seconds())
        with Honest(fleet, honest, victims, seen):
            time.sleep(2)
            if lost := [source for shard, source in enumerate(victims) if not fleet.has_counted(shard, source)]:
                message = f"not in the shard that they were found in: {', '.join(lost)}"
                raise RuntimeError(message)
            thread = threading.Thread(target=_attack, args=(attacker, publishes, seen, seconds))
            thread.start()
            ends_at = time.monotonic() + 2 * seconds
            while thread.is_alive() or time.monotonic() < ends_at:
                for process, size in fleet.resident().items():
                    more = size - before.get(process, 0)
                    seen.more_bytes[process] = max(more, seen.more_bytes.get(process, 0))
                seen.scrape_seconds.append(fleet.scrape_seconds())
                time.sleep(0.5)
            thread.join()
        seen.restarts, seen.log_bytes = fleet.restarts(), fleet.log_bytes() - log_before
        seen.cpu_seconds = {name: used - cpu_before.get(name, 0.0) for name, used in fleet.cpu_seconds().items()}
    return seen


def _vhost(node: PrivateNode) -> str:
    """Create a virtual host, and return its name."""
    vhost = f"hostile-{secrets.token_hex(4)}"
    node.vhost(vhost)
    return vhost


def _user(node: PrivateNode, vhost: str, name: str, write: str) -> str:
    """Create a user that may write and nothing else, and return its URL."""
    node.management("PUT", f"/api/users/{name}", {"password": name, "tags": ""})
    rights = {"configure": "^$", "write": write, "read": "^$"}
    node.management("PUT", f"/api/permissions/{vhost}/{name}", rights)
    return node.amqp_url.replace("guest:guest", f"{name}:{name}").replace("%2F", vhost)


def _attack(url: str, publishes: Sequence[tuple[int, Publish]], seen: Seen, seconds: float) -> None:
    until = time.monotonic() + seconds
    with _channel(url) as channel:
        for size, (routing_key, body, properties) in publishes:
            channel.basic_publish("telemetry", routing_key, body, properties)
            seen.sent_bytes += size
            seen.sent += 1
            if time.monotonic() > until:
                break


def _parse_names(text: str) -> list[str]:
    """Parse the names of attacks."""
    names = text.split(",")
    if unknown := [name for name in names if name not in ATTACKS]:
        message = f"{', '.join(unknown)}: expected some of {', '.join(ATTACKS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def main() -> int:
    """Measure and print; the exit status is 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        type=_parse_names,
        default=[*ATTACKS],
        metavar="NAME,…",
        help=f"some of: {', '.join(ATTACKS)} (default: all)",
    )
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    extras.require("fleet", "the fleet")
    are_held = []
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-hostile-")))
        node = stack.enter_context(PrivateNode(base / "node"))
        victims = find_victims(node, base / "victims")
        print(f"| {' | '.join(COLUMNS)} |")
        print(f"| --- {'| --: ' * (len(COLUMNS) - 2)}| --- |", flush=True)
        for number, name in enumerate(args.only):
            seen = measure(node, base / str(number), name, victims, args.seconds)
            are_held.append(seen.is_held)
            print(seen.row(name), flush=True)
    return 0 if all(are_held) else 1


if __name__ == "__main__":
    entry.run(main)
