"""Owners killed between two parts of what they append: what is whole in the log counts, and nothing counts twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from busmon.replication.records import Entry, Kind, Record
from tests.broker.proxy import Proxy
from tests.fleet.publishing import publish, table
from tests.fleet.replicated import declare, hosts
from tests.replication.cut import Cut, through
from tests.replication.exact import require_exact
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    import pika

    from busmon.demo.broker import PrivateNode

pytestmark = pytest.mark.timeout(600)

PARTS = "parts_total"
MOST_ROWS = 50_000
"""A body with more is quarantined."""
MORE_ROWS = 10_000
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
