"""Hosts and a broker without room: nothing is committed for as long as that lasts, and nothing is lost by it."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from busmon import status
from tests.broker.topologies import topology_file
from tests.fleet.publishing import envelope, publish
from tests.fleet.replicated import COUNTER, SHARDS, Host, declare, envelopes, hosts
from tests.patience import wait_until
from tests.replication.exact import SOURCES, owners, require_exact
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pika

    from busmon.demo.broker import PrivateNode

pytestmark = pytest.mark.timeout(600)

PETABYTE = str(10**15)
"""In bytes, since RabbitMQ 4.0 refuses larger units than it knows."""
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "absolute", "1"), ("set_vm_memory_high_watermark", "0.8")),
    "disk": (("set_disk_free_limit", PETABYTE), ("set_disk_free_limit", "50000000")),
}
NO_ROOM_BYTES = 1 << 16
"""As long as a value file is at first: no file can grow beyond it."""
PARTS = "parts_total"
SERIES = 40
RESTARTS = 5
FEW_DELIVERIES = ("x-delivery-limit = 100 #", "x-delivery-limit = 3 #")
"""With it, 40 restarts are what 1,300 are with the topology's own limit; a supervisor waits up to 10 s before each."""


@pytest.mark.parametrize("alarm", ALARMS)
def test_a_backlog_waits_for_the_end_of_an_alarm_and_is_counted_once(
    dedicated_node: PrivateNode, tmp_path: Path, alarm: str
) -> None:
    begin, end = ALARMS[alarm]
    declare(dedicated_node)
    with hosts(dedicated_node, tmp_path, "first", "second") as fleet:
        publish(dedicated_node.amqp_url, envelopes(1, SOURCES))
        require_exact(dedicated_node, SOURCES, *fleet)
        with Watch(*fleet):
            for host in fleet:
                host.signal_all(signal.SIGSTOP)
            publish(dedicated_node.amqp_url, envelopes(2, SOURCES))
            dedicated_node.rabbitmqctl(*begin)
            for host in fleet:
                host.signal_all(signal.SIGCONT)
            for host in fleet:
                host.wait_until_named("connection_blocked")
                assert host.totals()[COUNTER] == SOURCES
            dying, _ = owners(*fleet)
            dying.kill()
            dedicated_node.rabbitmqctl(*end)
            dying.start()
            require_exact(dedicated_node, 2 * SOURCES, *fleet)


@contextmanager
def full_disk(*fleet: Host) -> Iterator[None]:
    """Let no file of these hosts grow, as a quota does; new workers have the quota of their supervisor."""
    _limit(resource.RLIM_INFINITY, NO_ROOM_BYTES, fleet)
    yield
    _limit(resource.RLIM_INFINITY, resource.RLIM_INFINITY, fleet)


def _limit(hard: int, soft: int, fleet: tuple[Host, ...]) -> None:
    for host in fleet:
        for pid in host.pids():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def wide_envelopes() -> list[tuple[bytes, pika.BasicProperties]]:
    """One envelope of each source, which makes series that no value file has room for."""
    return [
        envelope(
            f"source-{number}",
            2,
            [
                {
                    "name": PARTS,
                    "type": "counter",
                    "labels": {"part": f"{number}-{part}{'x' * 64}"},
                    "value": 1,
                }
                for part in range(SERIES)
            ],
        )
        for number in range(SOURCES)
    ]


def restarts(host: Host) -> list[int]:
    """How often each worker of the host was restarted."""
    supervisor = status.read(host.registry_dir).supervisor
    return [times for name, times in supervisor.restarts.items() if name != "exporter"] if supervisor else [0]


def keeps_dying(host: Host) -> bool:
    """Tell whether workers of the host died again and again: the files refuse records that the log counts."""
    return sum(restarts(host)) >= RESTARTS


def is_stopped(host: Host) -> bool:
    """Tell whether the host's files refused a commit of its own, which the log hasn't, or records of the log."""
    return "pace.commit_failed" in host.log.read_text() or keeps_dying(host)


@pytest.mark.parametrize(("number", "is_in_vain"), [(1, keeps_dying), (2, is_stopped)], ids=["one host", "every host"])
def test_a_full_disk_stops_its_host_and_costs_no_envelope(
    vhost: Any, tmp_path: Path, number: int, is_in_vain: Callable[[Host], bool]
) -> None:
    declare(vhost)
    with hosts(vhost, tmp_path, "first", "second", BUSMON_MAX_LABEL_VALUES="10000") as fleet:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        require_exact(vhost, SOURCES, *fleet)
        full = fleet[:number]
        with Watch(*fleet):
            with full_disk(*full):
                publish(vhost.amqp_url, wide_envelopes())
                for host in fleet[number:]:
                    host.wait_for_total(PARTS, SOURCES * SERIES)
                for host in full:
                    wait_until(lambda host=host: is_in_vain(host), "a host that its disk stops")  # type: ignore[misc]
            require_exact(vhost, SOURCES * SERIES, *fleet, name=PARTS)


def test_workers_that_restart_again_and_again_on_full_disks_cost_no_envelope(vhost: Any, tmp_path: Path) -> None:
    path = topology_file(tmp_path, FEW_DELIVERIES)
    declare(vhost, "--topology", str(path))
    given = {"BUSMON_TOPOLOGY": str(path), "BUSMON_WORKERS": str(SHARDS), "BUSMON_MAX_LABEL_VALUES": "10000"}
    with hosts(vhost, tmp_path, "first", "second", **given) as fleet:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        require_exact(vhost, SOURCES, *fleet)
        with Watch(*fleet):
            with full_disk(*fleet):
                publish(vhost.amqp_url, wide_envelopes())
                wait_until(lambda: any(map(is_stopped, fleet)), "a commit that a disk refuses")
                for pid in [pid for host in fleet for pid in host.worker_pids()]:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                wait_until(lambda: all(min(restarts(host)) >= RESTARTS for host in fleet), "restarts of all workers")
            require_exact(vhost, SOURCES * SERIES, *fleet, name=PARTS)
