"""Real Celery workers, whose events a real fleet counts exactly, and whose end it shows."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from busmon.cli import main
from tests.celery.counted import await_equal, counted, value
from tests.celery.programs import CeleryProgram, Oracle, wait_for_tasks
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Vhost


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_each_event_counts_once_though_workers_are_killed_and_the_fleet_is_down(
    tmp_path: Path, vhost: Vhost, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["topology", "declare", "--celery", "--amqp-url", vhost.amqp_url]) == 0
    program, oracle = CeleryProgram(tmp_path, vhost.amqp_url), Oracle(vhost.amqp_url)
    stalls = 1 if pool == "prefork" else 0
    with program.worker("shop-1", pool) as worker:
        with RealFleet(tmp_path, vhost.amqp_url) as fleet:
            program.send(pay=60, refuse=5, ship=5, late_pay=3, stall=stalls)
            for victim in fleet.worker_pids():
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            wait_for_tasks(oracle, 73 + stalls, 120, worker)
        program.send(pay=40)
        wait_for_tasks(oracle, 113 + stalls, 120, worker)
        with RealFleet(tmp_path, vhost.amqp_url) as fleet:
            await_equal(fleet, oracle.count())
            found = counted(fleet)
            assert [found["task-sent", "tasks.pay"], found["task-succeeded", "tasks.pay"]] == [103, 100]
            assert [found["task-sent", "tasks.ship"], found["task-retried", "tasks.ship"]] == [15, 10]
            assert value(fleet, "celery_task_failed_total", exception="ValueError") == 5
            if stalls:
                assert (value(fleet, "celery_task_failed_total", exception="TimeLimitExceeded") or 0) >= 1
            assert value(fleet, "celery_task_runtime_count", name="tasks.pay") == 100
            assert b"5678 9010" not in fleet.get("/metrics")[1]
            assert value(fleet, "busmon_envelopes_rejected_total") in {None, 0}


def test_a_worker_that_is_killed_is_down_and_its_queues_are_still_looked_up(
    tmp_path: Path, vhost: Vhost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["topology", "declare", "--celery", "--amqp-url", vhost.amqp_url]) == 0
    program = CeleryProgram(tmp_path, vhost.amqp_url)
    with (
        RealFleet(tmp_path, vhost.amqp_url, BUSMON_PRESENCE_TTL_SECONDS="4") as fleet,
        program.worker("shop-1") as worker,
    ):
        program.send(wait=2, pay=1)
        wait_until(lambda: value(fleet, "celery_worker_up", hostname="shop-1") == 1, "the worker")
        wait_until(lambda: value(fleet, "celery_worker_tasks_active", hostname="shop-1") == 2, "two tasks")
        wait_until(lambda: value(fleet, "celery_active_consumer_count", queue_name="orders") == 1, "a consumer")
        assert value(fleet, "celery_active_worker_count", queue_name="orders") == 1
        worker.kill()
        wait_until(lambda: value(fleet, "celery_worker_up", hostname="shop-1") == 0, "the worker's end")
        assert value(fleet, "celery_worker_tasks_active", hostname="shop-1") == 0
        wait_until(lambda: value(fleet, "celery_queue_length", queue_name="orders") == 3, "the queue's length")
        assert value(fleet, "celery_active_consumer_count", queue_name="orders") == 0
        assert value(fleet, "celery_active_worker_count", queue_name="orders") == 0
