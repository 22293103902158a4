import pytest

from busmon.exporter.health import Document, liveness, readiness
from busmon.exporter.rollcall import call
from busmon.status import FleetStatus, SupervisorStatus, WorkerStatus

from .fleet import NOW, healthy, shard, supervisor, worker


def live(status: FleetStatus) -> Document:
    return liveness(call(status, NOW), "1.2.3", NOW - 50)


def fleet(supervisor: SupervisorStatus | None, *workers: WorkerStatus) -> FleetStatus:
    return FleetStatus(supervisor, workers)


def test_health_has_the_strategys_form() -> None:
    assert live(healthy()) == {
        "status": "alive",
        "timestamp": "2025-11-22T07:00:00.000Z",
        "version": "1.2.3",
        "uptime": 100,
    }


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (fleet(supervisor(beat_age=11), worker(0, shard(0))), "the supervisor has not beaten for 11 s"),
        (fleet(supervisor(), worker(0, beat_age=11), worker(1, beat_age=60)), "no worker has beaten for 10 s"),
        (fleet(supervisor()), "no worker has beaten for 10 s"),
        (fleet(None, worker(0, beat_age=11)), "no worker has beaten for 10 s"),
    ],
)
def test_dead_is_a_supervisor_or_every_worker_that_stopped_beating(status: FleetStatus, cause: str) -> None:
    document = live(status)
    assert document["status"] == "dead"
    assert document["causes"] == [cause]


@pytest.mark.parametrize(
    "status",
    [
        fleet(supervisor(), worker(0, beat_age=11), worker(1)),
        fleet(supervisor(up_for=3)),
        fleet(supervisor(up_for=3), worker(0, beat_age=500)),
        fleet(None, worker(0)),
        fleet(None),
    ],
    ids=["one worker of two", "just started", "just started over a killed fleet", "workers alone", "exporter alone"],
)
def test_alive_is_all_else(status: FleetStatus) -> None:
    assert live(status)["status"] == "alive"


def test_a_lone_exporters_uptime_is_its_own() -> None:
    assert live(fleet(None))["uptime"] == 50


def test_ready_has_the_strategys_form_without_what_is_not_configured() -> None:
    assert readiness(call(healthy(), NOW)) == {
        "status": "ready",
        "services": {"rabbitmq": "connected"},
        "checks": {"message_queue": "available"},
        "degraded": [],
    }


def test_part_of_the_shards_is_ready_and_degraded_with_reasons() -> None:
    status = fleet(
        supervisor(), worker(0, shard(0), shard(1, "cancelled", "the queue was deleted"), shard(2, "blocked"))
    )
    document = readiness(call(status, NOW))
    assert document["status"] == "ready"
    assert document["degraded"] == ["shard 1 is cancelled: the queue was deleted", "shard 2 is blocked"]


def test_connected_and_not_consuming_is_not_ready() -> None:
    document = readiness(call(fleet(supervisor(), worker(0, shard(0, "cancelled"))), NOW))
    assert document["status"] == "not_ready"
    assert document["services"] == {"rabbitmq": "connected"}
    assert document["checks"] == {"message_queue": "unavailable"}


@pytest.mark.parametrize(
    "status",
    [
        fleet(supervisor(), worker(0, shard(0, "connecting"))),
        fleet(supervisor(), worker(0, shard(0), beat_age=11)),
        fleet(None),
    ],
    ids=["connecting", "silent", "no worker"],
)
def test_without_a_connection_rabbitmq_is_disconnected(status: FleetStatus) -> None:
    document = readiness(call(status, NOW))
    assert document["status"] == "not_ready"
    assert document["services"] == {"rabbitmq": "disconnected"}
    assert document["degraded"]
