"""A full prefetch that the log has counted, and whose acknowledgements never reach RabbitMQ: all of it comes again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pika
import pytest

from tests.broker.proxy import Proxy
from tests.fleet.publishing import publish
from tests.fleet.replicated import COUNTER, Host, declare, envelopes, make_host
from tests.replication.exact import SOURCES, require_exact
from tests.replication.network import OneWay, through
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

pytestmark = pytest.mark.timeout(600)

TIMELESS, EARLY = "jobs_total", "runs_total"
AHEAD_SECONDS = 3600
TWO_RUNS, GROWTH = (1, 2, 3, 4, 5, 2, 3), 8
"""The totals of a program that restarts after the fifth, and what they add up to."""


def totals(*values: int) -> list[tuple[bytes, pika.BasicProperties]]:
    """Totals of each source, in order: one without a time, and one whose time is ahead of the fleet's clock.

    Nothing states an id.
    """
    ahead_ms = int(time.time() + AHEAD_SECONDS) * 1000
    return [
        (
            "".join(
                f'# TYPE {name} counter\n{name}{{part="{number}"}} {value}{at}\n'
                for name, at in ((TIMELESS, ""), (EARLY, f" {ahead_ms + value}"))
            ).encode(),
            pika.BasicProperties(
                content_type="text/plain; version=0.0.4", delivery_mode=2, headers={"source": f"source-{number}"}
            ),
        )
        for value in values
        for number in range(SOURCES)
    ]


@pytest.mark.parametrize("end", [Host.kill, Host.stop])
def test_what_is_counted_and_not_acknowledged_counts_once(
    vhost: Any, node: PrivateNode, tmp_path: Path, end: Callable[[Host], object]
) -> None:
    declare(vhost)
    with Proxy(node.amqp_port) as proxy:
        network = OneWay(proxy, lambda is_log, from_broker: not is_log and not from_broker)
        with (
            make_host(through(vhost, node, proxy), tmp_path / "first") as first,
            make_host(vhost, tmp_path / "second") as second,
            Watch(first, second),
        ):
            network.is_armed = True
            publish(vhost.amqp_url, envelopes(1, SOURCES) + totals(*TWO_RUNS))
            for host in (first, second):
                host.wait_for_total(COUNTER, SOURCES)
                host.wait_for_total(EARLY, GROWTH * SOURCES)
            end(first)
            publish(vhost.amqp_url, envelopes(2, SOURCES) + totals(6))
            proxy.let_go()
            first.start()
            require_exact(vhost, 2 * SOURCES, first, second)
            require_exact(vhost, (GROWTH + 3) * SOURCES, first, second, name=TIMELESS)
            require_exact(vhost, (GROWTH + 3) * SOURCES, first, second, name=EARLY)
            assert second.totals()["busmon_envelopes_deduplicated_total"] > 0
