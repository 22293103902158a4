"""A publisher with nothing but its right to publish stops no worker and spoils no neighbour's counts."""

import gzip
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pika

from busmon import status
from tests.conftest import Vhost
from tests.fleet.publishing import depth, envelope, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}


def packed(number: int, table: dict[str, Any]) -> tuple[bytes, pika.BasicProperties]:
    """A compressed body of one table, by a source of its own."""
    source = f"greedy-{number}"
    body = gzip.compress(orjson.dumps({"v": 1, "source": source, "agent": "greedy", "tables": [table]}))
    stated = pika.BasicProperties(
        content_type="application/json",
        content_encoding="gzip",
        message_id=f"{source}:1",
        headers={"source": source},
    )
    return body, stated


def wide(labels: int, bounds: int, length: int) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """A few kilobytes that would be gigabytes of value files."""
    names = [f"label_{label:02}" for label in range(labels)]
    buckets = {str(bound): 1 for bound in range(bounds)} | {"+Inf": 1}
    for number in range(12):
        rows = [[f"{number}.{row}".ljust(length, "x")] * labels + [{"buckets": buckets, "sum": 1}] for row in range(28)]
        yield packed(number * 100 + labels, {"name": f"w{labels}", "type": "histogram", "labels": names, "rows": rows})


def long_values() -> Iterator[tuple[bytes, pika.BasicProperties]]:
    for number in range(12):
        rows = [[f"{number}.{row}".ljust(1024, "\u20ac"), 0.5] for row in range(100)]
        yield packed(number * 100 + 1, {"name": "task_duration_seconds", "labels": ["agent"], "rows": rows})


def votes(first: int, count: int) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    for number in range(first, first + count):
        yield envelope(f"honest-{number % 8}", number // 8 + 1, [VOTE])


def restarts(fleet: RealFleet) -> int:
    supervisor = status.read(fleet.registry_dir).supervisor
    return sum(supervisor.restarts.values()) if supervisor else 0


def test_few_kilobytes_of_wide_series_cost_bounded_files_and_no_worker(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, votes(0, 80))
        for attack in (wide(32, 200, 1024), wide(16, 64, 256), long_values()):
            publish(vhost.amqp_url, attack)
        publish(vhost.amqp_url, votes(80, 80))
        fleet.wait_for_total("votes_cast_total", 160)
        wait_until(lambda: fleet.totals().get("busmon_samples_rejected_total", 0) > 0, "the wide series to be rejected")
        wait_until(lambda: fleet.totals()["busmon_envelopes_consumed_total"] == 196, "all bodies to be counted")
        files = [*fleet.registry_dir.glob("*.db"), *fleet.registry_dir.glob("*.bins")]
        assert sum(int.from_bytes(path.read_bytes()[:4], "little") for path in files) < 48 << 20
        assert restarts(fleet) == 0


def headed(number: int, headers: dict[str, Any]) -> tuple[bytes, pika.BasicProperties]:
    """An invalid body by a source of its own, with these headers."""
    source = f"greedy-{number}"
    return b"{]", pika.BasicProperties(message_id=f"{source}:1", headers={"source": source} | headers)


def test_large_headers_are_refused_unread_and_others_are_counted(tmp_path: Path, vhost: Vhost) -> None:
    nested = {"deep": [None] * 100_000}
    many = {f"{number:05}": None for number in range(12_000)}
    largest = {"deep": [None] * 16_000}
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, (headed(number, nested if number % 2 else many) for number in range(60)))
        publish(vhost.amqp_url, (headed(number, largest) for number in range(60, 120)))
        publish(vhost.amqp_url, votes(0, 80))
        fleet.wait_for_total("votes_cast_total", 80)
        wait_until(lambda: rejected(fleet) == {"large_properties": 60, "invalid_json": 60}, "all to be refused")
        wait_until(lambda: depth(vhost.amqp_url, "telemetry.quarantine") == 120, "all to be in quarantine")
        assert restarts(fleet) == 0


def rejected(fleet: RealFleet) -> dict[str, float]:
    """The refused bodies, by reason."""
    lines = fleet.get("/metrics")[1].decode().splitlines()
    found = [line for line in lines if line.startswith("busmon_envelopes_rejected_total{")]
    return {line.split('"')[1]: amount for line in found if (amount := float(line.rpartition(" ")[2]))}


def test_a_pipe_in_the_directory_keeps_no_scrape_and_no_worker_waiting(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, votes(0, 8))
        fleet.wait_for_total("votes_cast_total", 8)
        planted = [fleet.registry_dir / name for name in ("counter_9.db", "gauge_max_shard9.db", "shard9.journal")]
        for path in planted:
            os.mkfifo(path)
        publish(vhost.amqp_url, votes(8, 8))
        fleet.wait_for_total("votes_cast_total", 16)
        assert b'busmon_scrape_files_skipped{file="counter_9.db"' in fleet.get("/metrics")[1]
        for path in planted:
            path.unlink()
        assert b"busmon_scrape_files_skipped{" not in fleet.get("/metrics")[1]
        assert restarts(fleet) == 0
