from dataclasses import replace

from busmon.exporter.readiness.rollcall import SILENT, call
from busmon.status import FleetStatus
from tests.unit.exporter.fleet import NOW, healthy, shard, supervisor, worker


def test_every_worker_and_shard_of_a_healthy_fleet_answers() -> None:
    roll = call(healthy(), NOW)
    assert [row.up for row in roll.workers] == [True, True]
    assert [(row.shard, row.worker, row.state) for row in roll.shards] == [
        (0, 0, "consuming"),
        (1, 1, "consuming"),
        (2, 0, "consuming"),
        (3, 1, "consuming"),
    ]


def test_what_a_silent_worker_last_said_is_not_believed() -> None:
    roll = call(FleetStatus(supervisor(), (worker(0, shard(0, depth=7), beat_age=12),)), NOW)
    (row,) = roll.shards
    assert not roll.workers[0].up
    assert (row.state, row.depth) == (SILENT, None)
    assert row.cause == "worker 0 was last heard from 12 s ago"


def test_a_shard_that_moved_is_listed_once_with_the_owner_that_beat_last() -> None:
    killed, alive = worker(1, shard(1), beat_age=5), worker(0, shard(0), shard(1, "connecting"), beat_age=0.2)
    roll = call(FleetStatus(supervisor(), (alive, killed)), NOW)
    assert [(row.shard, row.worker, row.state) for row in roll.shards] == [
        (0, 0, "consuming"),
        (1, 0, "connecting"),
    ]


def test_a_killed_fleets_files_are_left_out_once_another_supervisor_runs() -> None:
    left_over = worker(7, shard(3), beat_age=500)
    status = FleetStatus(supervisor(up_for=60), (worker(0, shard(0)), left_over))
    assert [row.worker for row in call(status, NOW).workers] == [0]


def test_a_worker_that_stopped_under_this_supervisor_stays_listed() -> None:
    status = FleetStatus(supervisor(up_for=60), (worker(0, shard(0)), worker(1, shard(1), beat_age=30)))
    assert [row.up for row in call(status, NOW).workers] == [True, False]


def test_restarts_come_from_the_supervisor() -> None:
    status = FleetStatus(replace(supervisor(), restarts={"1": 3}), (worker(0), worker(1)))
    assert [row.restarts for row in call(status, NOW).workers] == [0, 3]


def test_a_clock_that_stepped_back_makes_no_age_negative() -> None:
    (row,) = call(FleetStatus(supervisor(), (worker(0, shard(0)),)), NOW - 3600).shards
    assert row.last_commit_age_seconds == 0
