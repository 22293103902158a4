"""Networks that hold what one side sends: an owner that reads nothing back, and a record that comes too late."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from busmon.replication.records import Marker, Record
from tests.broker.proxy import Proxy
from tests.fleet.publishing import publish
from tests.fleet.replicated import COUNTER, SHARDS, Host, declare, envelopes, lose_connections, make_host
from tests.patience import wait_until
from tests.replication.exact import SOURCES, require_exact
from tests.replication.logs import entries_now
from tests.replication.network import OneWay, through
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

pytestmark = pytest.mark.timeout(600)


class Scene(NamedTuple):
    """Two hosts that have counted one envelope of each source: the first, behind the proxy, and the second."""

    proxy: Proxy
    network: OneWay
    first: Host
    second: Host


@contextmanager
def scene(vhost: Any, node: PrivateNode, directory: Path, holds: Callable[[bool, bool], bool]) -> Iterator[Scene]:
    """Run the hosts under watch, on a network that is about to hold what is asked for."""
    declare(vhost)
    with Proxy(node.amqp_port) as proxy:
        network = OneWay(proxy, holds)
        with (
            make_host(through(vhost, node, proxy), directory / "first") as first,
            make_host(vhost, directory / "second") as second,
            Watch(first, second),
        ):
            publish(vhost.amqp_url, envelopes(1, SOURCES))
            require_exact(vhost, SOURCES, first, second)
            network.is_armed = True
            yield Scene(proxy, network, first, second)


@pytest.mark.parametrize(
    "holds",
    [lambda is_log, from_broker: is_log and from_broker, lambda _is_log, from_broker: from_broker],
    ids=["logs", "all"],
)
def test_an_owner_that_writes_and_reads_nothing_back_lets_go_and_counts_nothing_twice(
    vhost: Any, node: PrivateNode, tmp_path: Path, holds: Callable[[bool, bool], bool]
) -> None:
    with scene(vhost, node, tmp_path, holds) as (proxy, _, first, second):
        publish(vhost.amqp_url, envelopes(2, SOURCES))
        second.wait_for_total(COUNTER, 2 * SOURCES)
        wait_until(lambda: not first.owned(), "the owner to let go")
        publish(vhost.amqp_url, envelopes(2, SOURCES) + envelopes(3, SOURCES))
        second.wait_for_total(COUNTER, 3 * SOURCES)
        assert first.totals()[COUNTER] < 2 * SOURCES
        proxy.let_go()
        publish(vhost.amqp_url, envelopes(4, SOURCES))
        require_exact(vhost, 4 * SOURCES, first, second)


def test_a_record_that_reaches_the_log_after_the_next_owners_claim_counts_nothing(
    vhost: Any, node: PrivateNode, tmp_path: Path
) -> None:
    with scene(vhost, node, tmp_path, lambda is_log, from_broker: is_log and not from_broker) as held:
        proxy, network, first, second = held
        publish(vhost.amqp_url, envelopes(2, SOURCES))
        wait_until(lambda: network.is_broken, "a record on its way")
        wait_until(lambda: lose_connections(node, vhost, first, "busmon worker"), "the queues' connections to lose")
        second.wait_for_total(COUNTER, 2 * SOURCES)
        proxy.let_go()
        publish(vhost.amqp_url, envelopes(3, SOURCES))
        require_exact(vhost, 3 * SOURCES, first, second)
        late = [each for shard in range(SHARDS) for each in find_late(vhost, shard)]
        assert [each for each in late if each.host == "first" and b"source-" in each.payload]


def find_late(vhost: Any, shard: int) -> list[Record]:
    """Return the records of a log that came after the claim of another owner."""
    epoch, late = 0, []
    for entry in entries_now(vhost, shard):
        if isinstance(entry, Marker):
            epoch = max(epoch, entry.epoch)
        elif isinstance(entry, Record) and entry.epoch < epoch:
            late.append(entry)
    return late
