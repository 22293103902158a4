"""Faults of a replicated fleet on a real broker: totals stay exact, replicas stay equal, no counter goes down."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from busmon.cli import main
from tests.fleet.publishing import publish
from tests.fleet.replicated import COUNTER, declare, envelopes, hosts, lose_connections, make_host
from tests.patience import wait_until
from tests.replication.exact import SOURCES, owners, require_exact
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(600)


def test_an_owner_that_is_stopped_for_longer_than_any_timeout_changes_nothing(
    vhost: Any, node: Any, tmp_path: Path
) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as fleet:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        require_exact(vhost, SOURCES, *fleet)
        stopped, other = owners(*fleet)
        with Watch(other):
            publish(vhost.amqp_url, envelopes(2, SOURCES))
            stopped.signal_all(signal.SIGSTOP)
            assert wait_until(lambda: lose_connections(node, vhost, stopped, "busmon"), "connections to lose")
            publish(vhost.amqp_url, envelopes(3, SOURCES))
            other.wait_for_total(COUNTER, 3 * SOURCES)
            stopped.signal_all(signal.SIGCONT)
            publish(vhost.amqp_url, envelopes(4, SOURCES))
            require_exact(vhost, 4 * SOURCES, *fleet)


@pytest.mark.parametrize("kind", ["busmon log", "busmon worker", "busmon"], ids=["log", "queues", "all"])
def test_lost_connections_change_nothing(vhost: Any, node: Any, tmp_path: Path, kind: str) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as fleet, Watch(*fleet):
        for sequence in range(1, 16):
            publish(vhost.amqp_url, envelopes(sequence, SOURCES))
            for host in fleet:
                lose_connections(node, vhost, host, kind)
        require_exact(vhost, 15 * SOURCES, *fleet)


def test_killed_workers_and_hosts_change_nothing(vhost: Any, tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("SCHEDULE_SEED", "1"))
    declare(vhost)
    sequence = 0
    with hosts(vhost, tmp_path, "first", "second") as fleet, Watch(*fleet):
        for fault in range(12):
            sequence += 1
            publish(vhost.amqp_url, envelopes(sequence, SOURCES))
            host = chance.choice(fleet)
            if fault % 4 == 3:
                host.destroy()
                sequence += 1
                publish(vhost.amqp_url, envelopes(sequence, SOURCES))
                host.start()
            elif pids := host.worker_pids():
                with suppress(ProcessLookupError):  # its successor hasn't started yet
                    os.kill(chance.choice(pids), signal.SIGKILL)
        require_exact(vhost, sequence * SOURCES, *fleet)


def test_a_fresh_host_serves_all_shards_of_a_fleet_that_is_gone(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first") as (first,):
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        first.wait_for_total(COUNTER, SOURCES)
        first.destroy()
    publish(vhost.amqp_url, envelopes(1, SOURCES) + envelopes(2, SOURCES))
    with make_host(vhost, tmp_path / "second") as second:
        require_exact(vhost, 2 * SOURCES, second)


def test_another_host_counts_within_five_seconds_of_the_end_of_the_connection(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as fleet:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        require_exact(vhost, SOURCES, *fleet)
        dying, other = owners(*fleet)
        began = time.monotonic()
        dying.destroy()
        publish(vhost.amqp_url, envelopes(2, SOURCES))
        other.wait_for_total(COUNTER, 2 * SOURCES)
        print(f"takeover took {time.monotonic() - began:.1f} s")  # noqa: T201 - a figure, not a promise


def test_series_that_one_host_drops_are_gone_on_both(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as fleet:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        require_exact(vhost, SOURCES, *fleet)
        _, other = owners(*fleet)
        assert main(["registry", "drop", "--registry-dir", str(other.registry_dir), COUNTER]) == 0
        for host in fleet:
            wait_until(lambda host=host: not host.totals().get(COUNTER), "the series to be gone")  # type: ignore[misc]
        publish(vhost.amqp_url, envelopes(2, SOURCES))
        require_exact(vhost, SOURCES, *fleet)


def test_shards_spread_over_the_hosts_while_traffic_goes_on(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    sequence = 0
    with hosts(vhost, tmp_path, "first", "second") as fleet, Watch(*fleet):

        def is_spread() -> bool:
            nonlocal sequence
            sequence += 1
            publish(vhost.amqp_url, envelopes(sequence, SOURCES))
            return [host.owned() for host in fleet] == [{0, 2}, {1, 3}]

        wait_until(is_spread, "the shards to be spread")
        require_exact(vhost, sequence * SOURCES, *fleet)


def test_an_idle_shard_whose_owner_was_killed_has_another_owner(vhost: Any, tmp_path: Path) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second") as fleet:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        require_exact(vhost, SOURCES, *fleet)
        dying, other = owners(*fleet)
        dying.destroy()
        wait_until(lambda: other.owned() == {0, 1, 2, 3}, "the other host to own all shards")
        dying.start()
        require_exact(vhost, SOURCES, *fleet)
