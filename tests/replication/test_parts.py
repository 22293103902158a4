"""Owners killed between two parts of what they append: a record or a snapshot that isn't whole is none."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

from busmon.replication.records import Entry, Kind, Marker, Record
from tests.broker.proxy import Proxy
from tests.fleet.publishing import publish, table
from tests.fleet.replicated import Host, declare, hosts, make_host
from tests.patience import wait_until
from tests.replication.exact import require_exact
from tests.replication.logs import declare_short, entries_before, first_offset
from tests.replication.network import Cut, through
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pika

    from busmon.demo.broker import PrivateNode

pytestmark = pytest.mark.timeout(600)

PARTS = "parts_total"
MOST_ROWS = 50_000
"""A body with more is quarantined."""
MORE_ROWS = 10_000
FEW_ROWS = 4_800
SHORT = "5_000_000"
"""Two snapshots of these rows, each of two parts, and the records between them are a megabyte shorter."""
LONG_BYTES = 500_000
"""More than a start writes, less than the records of two envelopes of these rows."""
SETTINGS = {"BUSMON_MAX_LABEL_VALUES": "100000", "BUSMON_MAX_SERIES_PER_FAMILY": "100000"}


def wide_envelope(sequence: int, numbers: range) -> tuple[bytes, pika.BasicProperties]:
    """An envelope of one source, which adds 1 to each of these series."""
    return table("source-0", sequence, PARTS, "part", [[f"part-{number}", 1] for number in numbers])


def is_second_part(entry: Entry) -> bool:
    """Tell a commit's second part."""
    return isinstance(entry, Record) and entry.kind is Kind.COMMIT and entry.part == 1


def is_last_part(entry: Entry) -> bool:
    """Tell the last part of a commit of several."""
    return isinstance(entry, Record) and entry.kind is Kind.COMMIT and 1 < entry.parts == entry.part + 1


def test_a_record_counts_as_a_whole_where_its_owner_was_killed_between_its_parts(
    vhost: Any, node: PrivateNode, tmp_path: Path
) -> None:
    declare(vhost)
    with Proxy(node.amqp_port) as proxy:
        proxy.serves = cut = Cut()
        with (
            hosts(through(vhost, node, proxy), tmp_path, "first", "second", **SETTINGS) as fleet,
            Watch(*fleet),
        ):
            cut.arm(is_second_part)
            publish(vhost.amqp_url, [wide_envelope(1, range(MOST_ROWS))])
            dying, other = cut.choose_host(fleet)
            dying.kill()
            other.wait_for_total(PARTS, MOST_ROWS)
            dying.start()
            cut.arm(is_last_part)
            publish(vhost.amqp_url, [wide_envelope(2, range(MOST_ROWS, MOST_ROWS + MORE_ROWS))])
            dying, other = cut.choose_host(fleet)
            dying.destroy()
            other.wait_for_total(PARTS, MOST_ROWS + MORE_ROWS)
            publish(vhost.amqp_url, [wide_envelope(sequence, range(MOST_ROWS)) for sequence in (1, 2)])
            dying.start()
            require_exact(vhost, MOST_ROWS + MORE_ROWS, *fleet, name=PARTS)


class Confirming:
    """Tells the record of an owner that confirms its snapshot: the next one after it."""

    def __init__(self) -> None:
        self._snapshots: dict[str, int] = {}

    def __call__(self, entry: Entry) -> bool:
        if not isinstance(entry, Record):
            return False
        if entry.kind is Kind.SNAPSHOT:
            self._snapshots[entry.log] = entry.number
        return entry.number == self._snapshots.get(entry.log, -1) + 1


def is_second_of_snapshot(entry: Entry) -> bool:
    """Tell a snapshot's second part."""
    return isinstance(entry, Record) and entry.kind is Kind.SNAPSHOT and entry.part == 1


def is_claim_of_second(entry: Entry) -> bool:
    """Tell a claim of the second host."""
    return isinstance(entry, Marker) and entry.host == "second"


def snapshots(entries: list[Entry]) -> list[tuple[int, int]]:
    """Return of each snapshot how many parts are there, and how many it has."""
    parts = [each for each in entries if isinstance(each, Record) and each.kind is Kind.SNAPSHOT]
    return [(len(found), found[0].parts) for _, each in groupby(parts, lambda part: part.number) if (found := [*each])]


def find_long_logs(host: Host) -> list[int]:
    """List the shards whose logs have more than the start of a host, by its status."""
    return [number for number, replica in host.replicas().items() if replica.log_bytes > LONG_BYTES]


@pytest.mark.parametrize(
    ("is_missing", "is_whole"), [(is_second_of_snapshot, False), (Confirming(), True)], ids=["in parts", "unconfirmed"]
)
def test_a_fresh_host_begins_at_the_snapshot_before_the_one_in_which_the_owner_was_killed(
    vhost: Any, node: PrivateNode, tmp_path: Path, is_missing: Callable[[Entry], bool], *, is_whole: bool
) -> None:
    settings = {**SETTINGS, "BUSMON_TOPOLOGY": str(declare_short(vhost, tmp_path, SHORT)), "BUSMON_BATCH_SIZE": "1"}
    sequence = 0

    def publish_two() -> None:
        nonlocal sequence
        publish(vhost.amqp_url, [wide_envelope(sequence + more, range(FEW_ROWS)) for more in (1, 2)])
        sequence += 2
        wait_until(lambda: cut.is_made or first.totals().get(PARTS) == sequence * FEW_ROWS, "the counts, or the cut")

    with Proxy(node.amqp_port) as proxy:
        proxy.serves = cut = Cut()
        with hosts(through(vhost, node, proxy), tmp_path, "first", **settings) as (first,), Watch(first):
            publish_two()
            (shard,) = wait_until(lambda: find_long_logs(first), "a log with the counts, by the host's status")
            while not first_offset(vhost, shard):
                publish_two()
            assert not any("too short" in line for line in first.ready()["degraded"])
            cut.arm(is_missing)
            while not cut.is_made:
                publish_two()
            first.destroy()
            with make_host(vhost, tmp_path / "second", **settings) as second, Watch(second):
                second.wait_for_total(PARTS, sequence * FEW_ROWS)
                *earlier, last = snapshots(entries_before(vhost, shard, is_claim_of_second))
                assert earlier[-1][0] == earlier[-1][1]
                assert (last[0] == last[1]) == is_whole
                first.start()
                publish_two()
                require_exact(vhost, sequence * FEW_ROWS, first, second, name=PARTS)
