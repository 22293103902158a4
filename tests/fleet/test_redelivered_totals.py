"""Totals without a time and an id are exact though their worker is killed and their program restarts at that moment."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pika

from tests.broker.proxy import Proxy
from tests.fleet.publishing import depth, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.demo.broker import PrivateNode
    from tests.conftest import Vhost

SHARDS = 4


def tell(vhost: Vhost, *totals: int) -> None:
    """Publish these totals of a program in Prometheus' text, which says neither a time nor an id."""
    stated = pika.BasicProperties(
        content_type="text/plain; version=0.0.4", delivery_mode=2, headers={"source": "planner-1"}
    )
    publish(vhost.amqp_url, [(f"# TYPE jobs_total counter\njobs_total {total}\n".encode(), stated) for total in totals])


def kill_worker(fleet: RealFleet) -> None:
    """SIGKILL the only worker, and wait until another consumes."""
    (killed,) = fleet.worker_pids()
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in fleet.worker_pids() and fleet.is_consuming(), "another worker")


def test_what_was_counted_before_a_restart_is_known_where_its_ack_was_lost(
    tmp_path: Path, vhost: Vhost, node: PrivateNode
) -> None:
    with Proxy(node.amqp_port) as proxy:
        url = vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/")
        with RealFleet(tmp_path, url, BUSMON_WORKERS="1") as fleet:
            held = proxy.connections
            proxy.holds = lambda connection, from_broker: connection < held and not from_broker
            tell(vhost, 90, 100, 5, 10)
            fleet.wait_for_total("jobs_total", 110)
            kill_worker(fleet)
            tell(vhost, 15)
            fleet.wait_for_total("jobs_total", 115)
            assert fleet.totals()["busmon_samples_rejected_total"] == 4


def test_a_restart_that_a_killed_worker_had_not_counted_is_counted_by_the_next(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url, BUSMON_WORKERS="1") as fleet:
        tell(vhost, 8)
        fleet.wait_for_total("jobs_total", 8)
        os.kill(fleet.worker_pids()[0], signal.SIGSTOP)
        tell(vhost, 9, 1, 2)
        queues = [f"telemetry.fold.{shard}" for shard in range(SHARDS)]
        wait_until(lambda: not any(depth(vhost.amqp_url, queue) for queue in queues), "the worker to be sent all")
        kill_worker(fleet)
        tell(vhost, 20)
        fleet.wait_for_total("jobs_total", 8 + 1 + 20)
