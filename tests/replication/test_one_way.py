"""A network that takes what a host writes and gives nothing back: the host owns nothing, and nothing counts twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from busmon.replication.records import Kind, Record
from tests.broker.proxy import Proxy
from tests.fleet.publishing import publish
from tests.fleet.replicated import COUNTER, declare, envelopes, make_host
from tests.patience import wait_until
from tests.replication.cut import LogNames, entry_of, through
from tests.replication.exact import SOURCES, require_exact
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

pytestmark = pytest.mark.timeout(600)


class OneWay:
    """Holds what the broker sends from a record of the host on, which itself passes.

    Args:
        proxy: before the host, from its start on.
        has_queues: the connections of queues pass both ways, those of logs don't.
    """

    def __init__(self, proxy: Proxy, *, has_queues: bool) -> None:
        self.is_armed = False
        self._proxy = proxy
        self._logs = LogNames()
        self._has_queues = has_queues
        proxy.serves = self._note

    def _note(self, connection: int, _channel: int, frame: bytes) -> bool:
        self._logs.note(connection, frame)
        if self.is_armed:
            entry = entry_of(frame)
            if isinstance(entry, Record) and entry.kind is Kind.COMMIT and b"source-" in entry.payload:
                self.is_armed = False
                self._proxy.holds = self._holds
        return True

    def _holds(self, connection: int) -> bool:
        return not self._has_queues or self._logs.find(connection) is not None


@pytest.mark.parametrize("has_queues", [True, False], ids=["logs", "all"])
def test_an_owner_that_writes_and_reads_nothing_back_lets_go_and_counts_nothing_twice(
    vhost: Any, node: PrivateNode, tmp_path: Path, *, has_queues: bool
) -> None:
    declare(vhost)
    with Proxy(node.amqp_port) as proxy:
        network = OneWay(proxy, has_queues=has_queues)
        with (
            make_host(through(vhost, node, proxy), tmp_path / "first") as first,
            make_host(vhost, tmp_path / "second") as second,
            Watch(first, second),
        ):
            publish(vhost.amqp_url, envelopes(1, SOURCES))
            require_exact(vhost, SOURCES, first, second)
            network.is_armed = True
            publish(vhost.amqp_url, envelopes(2, SOURCES))
            second.wait_for_total(COUNTER, 2 * SOURCES)
            wait_until(lambda: not first.owned(), "the owner to let go")
            publish(vhost.amqp_url, envelopes(2, SOURCES) + envelopes(3, SOURCES))
            second.wait_for_total(COUNTER, 3 * SOURCES)
            assert first.totals()[COUNTER] < 2 * SOURCES
            proxy.let_go()
            publish(vhost.amqp_url, envelopes(4, SOURCES))
            require_exact(vhost, 4 * SOURCES, first, second)
