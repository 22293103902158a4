"""Snapshots under load: logs lose their beginning, owners are killed meanwhile, and a host without files is whole."""

from __future__ import annotations

import os
import random
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from busmon.bus.log.reading import PREFETCH
from tests.fleet.publishing import envelope, publish
from tests.fleet.replicated import SHARDS, Host, hosts
from tests.replication.exact import SOURCES, owners, require_exact
from tests.replication.logs import declare_short, first_offset
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pika

pytestmark = pytest.mark.timeout(1200)

PARTS = "parts_total"
SERIES = 100
SHORT = "3_000_000"
SETTINGS = {
    "BUSMON_BATCH_SIZE": "5",
    "BUSMON_MAX_LABEL_VALUES": "100000",
    "BUSMON_MAX_SERIES_PER_FAMILY": "100000",
}
"""Small batches, so that many records fill the logs."""
ROUNDS = 1000
ROUNDS_A_KILL = 30


def wide_envelopes(sequence: int) -> list[tuple[bytes, pika.BasicProperties]]:
    """One envelope of each source, which adds 1 to each of the source's series."""
    return [
        envelope(
            f"source-{number}",
            sequence,
            [
                {"name": PARTS, "type": "counter", "labels": {"part": f"{number}-{part}"}, "value": 1}
                for part in range(SERIES)
            ],
        )
        for number in range(SOURCES)
    ]


def snapshots(*fleet: Host) -> int:
    """Return how many snapshots the hosts have written."""
    return sum(host.log.read_text().count("followed_log.snapshot_appended") for host in fleet)


@contextmanager
def hosts_of_short_logs(vhost: Any, directory: Path) -> Iterator[list[Host]]:
    """Run two hosts whose logs are short, and watch both."""
    given = {**SETTINGS, "BUSMON_TOPOLOGY": str(declare_short(vhost, directory, SHORT))}
    with hosts(vhost, directory, "first", "second", **given) as fleet, Watch(*fleet):
        yield fleet
        assert not any("too short" in line for host in fleet for line in host.ready()["degraded"])


def test_owners_killed_under_load_while_logs_are_cut_to_their_snapshots_lose_nothing(
    vhost: Any, tmp_path: Path
) -> None:
    chance = random.Random(os.environ.get("SCHEDULE_SEED", "1"))
    sequence = 0
    with hosts_of_short_logs(vhost, tmp_path) as fleet:
        while not all(first_offset(vhost, shard) for shard in range(SHARDS)):
            for _ in range(ROUNDS_A_KILL):
                sequence += 1
                assert sequence < ROUNDS
                publish(vhost.amqp_url, wide_envelopes(sequence))
            dying = owners(*fleet)[0] if chance.random() < 0.5 else chance.choice(fleet)
            dying.destroy()
            publish(vhost.amqp_url, wide_envelopes(sequence := sequence + 1))
            dying.start()
        require_exact(vhost, sequence * SOURCES * SERIES, *fleet, name=PARTS)
        assert snapshots(*fleet) >= SHARDS


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "stopped"])
def test_a_host_that_missed_what_its_logs_have_lost_reads_them_again(
    vhost: Any, tmp_path: Path, *, is_killed: bool
) -> None:
    sequence = 1
    with hosts_of_short_logs(vhost, tmp_path) as fleet:
        publish(vhost.amqp_url, wide_envelopes(sequence))
        require_exact(vhost, SOURCES * SERIES, *fleet, name=PARTS)
        other, stopped = owners(*fleet)
        reached = {shard: replica.offset + PREFETCH for shard, replica in stopped.replicas().items()}
        stopped.signal_all(signal.SIGKILL if is_killed else signal.SIGSTOP)
        while not all(first_offset(vhost, shard) > offset for shard, offset in reached.items()):
            for _ in range(10):
                sequence += 1
                assert sequence < ROUNDS
                publish(vhost.amqp_url, wide_envelopes(sequence))
            other.wait_for_total(PARTS, sequence * SOURCES * SERIES)
        if is_killed:
            stopped.process.wait()
            stopped.start()
        stopped.signal_all(signal.SIGCONT)
        require_exact(vhost, sequence * SOURCES * SERIES, *fleet, name=PARTS)
        # The broker may still have a dropped segment open for a reader that was in it.
        assert "followed_log.rebuilding" in stopped.log.read_text()
