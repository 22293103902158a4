"""Exact under kill -9: real workers die while real envelopes flow, and the scrape equals what was published."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pika

from tests.conftest import Vhost
from tests.fleet.publishing import depth, envelope, properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

SOURCES = 40
ENVELOPES = 20_000


def known_envelopes(count: int) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Envelopes that each add 1, 3 and an observation of 0.25."""
    for number in range(count):
        samples = [
            {"name": "tasks_processed_total", "labels": {"agent": "a", "status": "success"}, "value": 1},
            {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 3},
            {"name": "task_duration_seconds", "labels": {"agent": "a"}, "value": 0.25},
        ]
        yield envelope(f"source-{number % SOURCES}", number // SOURCES + 1, samples)


def kill_a_worker(fleet: RealFleet) -> None:
    """SIGKILL a worker that has counted something since it started, and wait for its replacement."""
    before = set(fleet.worker_pids())
    victim = random.choice(sorted(before))
    with suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in fleet.worker_pids() and len(fleet.worker_pids()) == len(before), "a replacement")


def test_totals_are_exact_though_workers_are_killed_five_times(tmp_path: Path, vhost: Vhost) -> None:
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        step = ENVELOPES // 6
        published = known_envelopes(ENVELOPES)
        for kill in range(6):
            chunk = step if kill < 5 else ENVELOPES - 5 * step
            publish(vhost.amqp_url, [next(published) for _ in range(chunk)])
            if kill < 5:
                kill_a_worker(fleet)
        fleet.wait_for_total("busmon_envelopes_consumed_total", ENVELOPES)
        totals = fleet.totals()
        assert totals["tasks_processed_total"] == ENVELOPES
        assert totals["votes_cast_total"] == 3 * ENVELOPES
        assert totals["task_duration_seconds_count"] == ENVELOPES
        assert totals["task_duration_seconds_sum"] == 0.25 * ENVELOPES
        assert totals["busmon_worker_restarts_total"] == 5
        assert depth(vhost.amqp_url, "telemetry.quarantine") == 0


def test_counters_go_on_after_the_whole_fleet_was_killed(tmp_path: Path, vhost: Vhost) -> None:
    fleet = RealFleet(tmp_path, vhost.amqp_url)
    published = known_envelopes(4000)
    with fleet:
        publish(vhost.amqp_url, [next(published) for _ in range(2000)])
        fleet.wait_for_total("tasks_processed_total", 2000)
        fleet.process.kill()
        fleet.process.wait()
    publish(vhost.amqp_url, published)
    with fleet:
        fleet.wait_for_total("tasks_processed_total", 4000)
        assert fleet.stop() == 0
    with fleet:
        assert fleet.totals()["tasks_processed_total"] == 4000


def test_a_resend_is_known_after_a_restart(tmp_path: Path, vhost: Vhost) -> None:
    fleet = RealFleet(tmp_path, vhost.amqp_url)
    with fleet:
        publish(vhost.amqp_url, known_envelopes(200))
        fleet.wait_for_total("tasks_processed_total", 200)
    with fleet:
        publish(vhost.amqp_url, known_envelopes(200))
        fleet.wait_for_total("busmon_envelopes_deduplicated_total", 200)
        assert fleet.totals()["tasks_processed_total"] == 200


def test_a_body_that_kills_its_worker_ends_in_quarantine_alone(tmp_path: Path, vhost: Vhost) -> None:
    deadly = b'{"v": 1, "source": "killer", "agent": "killer", "samples": [], "kill": true}'
    (tmp_path / "sitecustomize.py").write_text(KILLED_BY_A_WORD)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with RealFleet(tmp_path, vhost.amqp_url, PYTHONPATH=path) as fleet:
        good = list(known_envelopes(1000))
        publish(vhost.amqp_url, [*good[:500], (deadly, properties("killer", "killer:1")), *good[500:]])
        fleet.wait_for_total("tasks_processed_total", 1000)
        wait_until(lambda: depth(vhost.amqp_url, "telemetry.quarantine") == 1, "the killer in quarantine")
        totals = fleet.totals()
        assert totals["tasks_processed_total"] == 1000
        assert totals["busmon_envelopes_rejected_total"] == 1
        assert 1 <= totals["busmon_worker_restarts_total"] <= 3
        assert fleet.get("/ready")[0] == 200


KILLED_BY_A_WORD = """
import os, signal
import orjson

loads = orjson.loads

def deadly_loads(body):
    if b'"kill": true' in bytes(body):
        os.kill(os.getpid(), signal.SIGKILL)
    return loads(body)

orjson.loads = deadly_loads
"""
