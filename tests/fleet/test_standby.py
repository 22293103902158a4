"""Two fleets on one broker, one of them a standby: shards move when a host is gone, and not when a worker dies."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from tests.fleet.publishing import envelope, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

if TYPE_CHECKING:
    from pathlib import Path

STANDBY_SECONDS = 40
"""Longer than a busy machine takes to replace a worker."""

SAMPLES = [
    {"name": "tasks_processed_total", "labels": {"agent": "analyzer", "status": "success"}, "value": 1},
    {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 7},
]


class Standby(RealFleet):
    """A fleet that starts without a shard to consume."""

    def is_consuming(self) -> bool:
        """Tell if every shard stands by, which is all that a standby does at first."""
        return self.states() == {"standby"}


def fleet(kind: type[RealFleet], directory: Path, vhost: Any, **environment: Any) -> RealFleet:
    directory.mkdir()
    return kind(directory, vhost.amqp_url, **environment)


def counted(*fleets: RealFleet) -> list[float]:
    return [each.totals().get("tasks_processed_total", 0.0) for each in fleets]


def gauges(of: RealFleet) -> list[str]:
    names = ("queue_size{", "active_agents{")
    lines = of.get("/metrics")[1].decode().splitlines()
    return [line for line in lines if line.startswith(names) and not line.endswith(" 0.0")]


def test_shards_stay_with_their_host_until_it_is_gone(vhost: Any, tmp_path: Path) -> None:
    with (
        fleet(RealFleet, tmp_path / "first", vhost) as first,
        fleet(Standby, tmp_path / "second", vhost, BUSMON_STANDBY_SECONDS=str(STANDBY_SECONDS)) as second,
    ):
        assert isinstance(second, Standby)
        publish(vhost.amqp_url, [envelope(f"source-{number}", 1, SAMPLES) for number in range(20)])
        first.wait_for_total("tasks_processed_total", 20)
        assert second.get("/ready")[0] == 200
        assert second.ready()["degraded"] == []
        assert first.ready()["degraded"] == []

        for pid in first.worker_pids():
            os.kill(pid, signal.SIGKILL)
        publish(vhost.amqp_url, [envelope(f"source-{number}", 2, SAMPLES) for number in range(20)])
        wait_until(lambda: counted(first) == [40], "the first host to go on")
        assert (counted(second), second.states()) == ([0], {"standby"})
        assert gauges(first)
        assert gauges(second) == []

        first.stop()
        publish(vhost.amqp_url, [envelope(f"source-{number}", 3, SAMPLES) for number in range(20)])
        wait_until(lambda: counted(second) == [20], "the standby to take over")
        assert second.states() == {"consuming"}
        assert gauges(second)

        for pid in second.worker_pids():
            os.kill(pid, signal.SIGKILL)
        publish(vhost.amqp_url, [envelope(f"source-{number}", 4, SAMPLES) for number in range(20)])
        wait_until(lambda: counted(second) == [40], "the standby to go on", STANDBY_SECONDS)
        assert gauges(second)

        first.start()
        second.stop()
        publish(vhost.amqp_url, [envelope(f"source-{number}", 5, SAMPLES) for number in range(20)])
        wait_until(lambda: counted(first) == [60], "the first host to take its shards back")
        second.start()
        assert gauges(second) == []
        assert counted(first, second) == [60, 40]
