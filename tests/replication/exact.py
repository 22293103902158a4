"""The end of each schedule: totals are exact on all hosts, nothing is in quarantine, and the replicas are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.fleet.publishing import depth
from tests.fleet.replicated import COUNTER, SHARDS, Host, wait_for_equal
from tests.patience import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCES = 40


def require_exact(vhost: Any, total: float, *fleet: Host, name: str = COUNTER) -> None:
    """Wait until each host has the total; then nothing is left in a queue, and the replicas are equal."""
    for host in fleet:
        host.wait_for_total(name, total)
    queues = [f"telemetry.fold.{shard}" for shard in range(SHARDS)]
    wait_until(lambda: not any(depth(vhost.amqp_url, queue) for queue in queues), "empty queues")
    assert depth(vhost.amqp_url, "telemetry.quarantine") == 0
    first, *others = fleet
    for other in others:
        wait_for_equal(first, other)


def owners(*fleet: Host) -> Sequence[Host]:
    """The hosts, the one with most shards first."""
    return sorted(fleet, key=lambda host: -len(host.owned()))
