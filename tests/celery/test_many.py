"""100,000 tasks of real Celery workers, while the fleet, a worker of Celery and the broker go down: each event once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from busmon.cli import main
from tests.celery.counted import await_equal, counted, value
from tests.celery.programs import CeleryProgram, Oracle
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from busmon.demo.broker import PrivateNode

TASKS = int(os.environ.get("CELERY_TASKS", "100000"))
SECONDS = 7200


def kill_workers(fleet: RealFleet) -> None:
    """End the fleet's workers by SIGKILL."""
    for victim in fleet.worker_pids():
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)


@pytest.mark.timeout(SECONDS)
def test_each_event_of_many_tasks_counts_once_whatever_goes_down(
    tmp_path: Path,
    dedicated_node: PrivateNode,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    amqp_url = dedicated_node.amqp_url
    assert main(["topology", "declare", "--celery", "--amqp-url", amqp_url]) == 0
    program, oracle = CeleryProgram(tmp_path, amqp_url), Oracle(amqp_url)
    fails = TASKS // 100
    wanted = {"refuse": fails, "ship": fails, "late_pay": fails, "pay": TASKS - 3 * fails}

    def ended(share: float) -> None:
        wait_until(lambda: oracle.ended() >= share * TASKS, f"{share:.0%} of the tasks", SECONDS)

    fleet = RealFleet(tmp_path, amqp_url)
    fleet.start()
    with program.worker("shop-1") as prefork, program.worker("shop-2", "threads"):
        sending = program.start_sending(**wanted)
        for share in (0.1, 0.2, 0.3):
            ended(share)
            kill_workers(fleet)
        assert fleet.stop() == 0
        ended(0.5)
        fleet.start()
        prefork.kill()
        with program.worker("shop-1"):
            ended(0.7)
            dedicated_node.restart()
            ended(0.8)
            kill_workers(fleet)
            assert sending.wait(SECONDS) == 0
            ended(1)
    expected = oracle.count()
    await_equal(fleet, expected)
    found = counted(fleet)
    # Of these, the fleet has counted as `unknown` what came before the event with the task's name.
    assert expected["task-succeeded", "tasks.pay"] >= wanted["pay"]
    assert expected["task-failed", "tasks.refuse"] >= fails
    assert expected["task-retried", "tasks.ship"] >= 2 * fails
    assert value(fleet, "celery_task_failed_total", exception="ValueError") == oracle.exceptions["ValueError"]
    succeeded = sum(count for (type_, _), count in expected.items() if type_ == "task-succeeded")
    assert value(fleet, "celery_task_runtime_count") == succeeded
    assert value(fleet, "celery_task_runtime_sum") == pytest.approx(oracle.runtime_seconds, rel=1e-9)
    assert fleet.stop() == 0
    with capsys.disabled():
        print(f"\n{_report(expected, found, oracle.repeated)}")  # noqa: T201 - the figures of docs/celery.md


def _report(expected: Counter[tuple[str, str]], found: dict[tuple[str, str], float], repeated: int) -> str:
    published: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for (type_, _), times in expected.items():
        published[type_] += times
    for (type_, _), counted_times in found.items():
        counts[type_] += int(counted_times)
    lines = [f"| {type_} | {times:,} | {counts[type_]:,} |" for type_, times in sorted(published.items())]
    unknown = sum(times for (_, name), times in found.items() if name == "unknown")
    rest = f"{repeated:,} events arrived again; {unknown:,.0f} were counted under the name unknown"
    return "\n".join(["| Events | Published | busmon |", "|---|--:|--:|", *lines, rest])
