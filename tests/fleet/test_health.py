"""Readiness of a real fleet: what the workers do, as the exporter tells it."""

import os
import re
import signal
from pathlib import Path
from typing import Any

from busmon import status
from busmon.demo.broker import PrivateNode
from tests.broker.proxy import Proxy, delivers
from tests.conftest import Vhost
from tests.fleet.publishing import envelope, properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until


def commit_ages(fleet: RealFleet) -> list[Any]:
    return [shard["last_commit_age_seconds"] for shard in fleet.ready()["shards"]]


def test_a_worker_that_is_connected_and_stopped_is_named_until_it_goes_on(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, [envelope(f"s-{number}", 1, []) for number in range(64)])
        wait_until(
            lambda: fleet.ready()["status"] == "ready" and None not in commit_ages(fleet), "every shard to commit"
        )
        before = min(commit_ages(fleet))
        wait_until(lambda: min(commit_ages(fleet)) > before, "the ages to grow")
        stopped = status.read(fleet.registry_dir).workers[1]
        os.kill(stopped.pid, signal.SIGSTOP)
        try:
            document = fleet.wait_until_named(f"worker {stopped.worker} has not beaten for ")
        finally:
            os.kill(stopped.pid, signal.SIGCONT)
        assert document["status"] == "not_ready"
        assert document["services"]["rabbitmq"] == "connected"
        assert document["checks"]["message_queue"] == "unavailable"
        silent = {line.partition(":")[0] for line in document["degraded"] if line.startswith("shard")}
        assert silent == {f"shard {shard.shard} is silent" for shard in stopped.shards}
        wait_until(lambda: fleet.ready()["status"] == "ready", "the worker to go on")


def test_a_blocked_connection_is_named_until_the_alarm_is_over(tmp_path: Path, dedicated_node: PrivateNode) -> None:
    with RealFleet(tmp_path, dedicated_node.amqp_url, "--workers", "1") as fleet:
        (worker,) = status.read(fleet.registry_dir).workers
        os.kill(worker.pid, signal.SIGSTOP)
        # An invalid body waits for its worker, which then wants to publish it to quarantine, under the alarm.
        publish(dedicated_node.amqp_url, [(b"no envelope", properties("s-1", "s-1:1"))])
        dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1")
        os.kill(worker.pid, signal.SIGCONT)
        document = fleet.wait_until_named(" is blocked: connection_blocked: low on memory")
        assert document["status"] == "not_ready"
        assert document["services"]["rabbitmq"] == "connected"
        assert document["checks"]["message_queue"] == "unavailable"
        dedicated_node.rabbitmqctl("set_vm_memory_high_watermark", "0.8")
        wait_until(lambda: fleet.ready()["status"] == "ready", "the alarm to be over")


def test_a_shard_that_gets_nothing_though_envelopes_wait_is_stalled_until_it_goes_on(
    tmp_path: Path, node: PrivateNode, vhost: Vhost
) -> None:
    with Proxy(node.amqp_port) as proxy:
        url = vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/")
        with RealFleet(tmp_path, url, "--workers", "1", "--prefetch", "1") as fleet:
            wait_until(lambda: fleet.ready()["status"] == "ready", "the fleet to be ready")
            proxy.serves = lambda _connection, _channel, frame: not delivers(frame)
            publish(vhost.amqp_url, [envelope("s", number, []) for number in range(1, 4)])
            stall = "is stalled: 2 envelopes wait, and none was committed for "
            document = fleet.wait_until_named(stall)
            assert document["status"] == "not_ready"
            (said,) = [line for line in document["degraded"] if stall in line]
            shard = said.split()[1]
            metrics = fleet.get("/metrics")[1].decode()
            assert f'busmon_queue_depth{{queue="telemetry.fold.{shard}"}} 2.0' in metrics
            assert f'busmon_shard_state{{shard="{shard}",state="consuming"}} 1.0' in metrics
            (waiting,) = re.findall(rf'busmon_shard_waiting_seconds{{shard="{shard}"}} (\S+)', metrics)
            assert float(waiting) > 15
            proxy.serves = lambda _connection, _channel, _frame: True
            for pid in fleet.worker_pids():
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: fleet.ready()["status"] == "ready", "the fleet to go on")
            fleet.wait_for_total("busmon_envelopes_consumed_total", 3)
