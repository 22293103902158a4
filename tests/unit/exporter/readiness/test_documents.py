from dataclasses import replace

import pytest

from busmon.exporter.checks.findings import UNCHECKED, Condition, Finding, Findings, Usage
from busmon.exporter.readiness.documents import Document, fleet_reasons, liveness, readiness
from busmon.exporter.readiness.rollcall import call
from busmon.status import FleetStatus, SupervisorStatus, WorkerStatus
from tests.unit.exporter.fleet import NOW, healthy, shard, supervisor, worker


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
        (fleet(supervisor(), worker(0, beat_age=11), worker(1, beat_age=60)), "no worker has beaten for 8 s"),
        (fleet(supervisor()), "no worker has beaten for 8 s"),
        (fleet(None, worker(0, beat_age=11)), "no worker has beaten for 8 s"),
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


def test_a_fleet_that_ends_in_order_is_stopping_and_not_dead() -> None:
    for workers in ((worker(0, shard(0, "draining")),), ()):
        stopping = fleet(replace(supervisor(workers=1), stopping=True), *workers)
        assert live(stopping)["status"] == "stopping"
        document = readiness(call(stopping, NOW))
        assert (document["status"], document["degraded"]) == ("not_ready", ["the fleet is stopping"])
    assert live(fleet(replace(supervisor(beat_age=11), stopping=True)))["status"] == "dead"


def test_a_lone_exporters_uptime_is_its_own() -> None:
    assert live(fleet(None))["uptime"] == 50


def test_ready_has_the_strategys_form_without_what_is_not_configured() -> None:
    document = readiness(call(healthy(), NOW))
    assert {name: document[name] for name in ("status", "services", "checks", "degraded")} == {
        "status": "ready",
        "services": {"rabbitmq": "connected"},
        "checks": {"message_queue": "available"},
        "degraded": [],
    }
    assert document["dependencies"] == {"rabbitmq": {"state": "connected", "required": True, "age_seconds": 0.5}}
    assert document["resources"] == {}


def test_the_last_commit_of_each_shard_is_told_by_its_age() -> None:
    assert readiness(call(healthy(), NOW))["shards"][3] == {
        "shard": 3,
        "worker": 1,
        "state": "consuming",
        "cause": "",
        "last_commit_age_seconds": 0.4,
    }


def test_one_shard_of_many_that_is_not_consumed_is_named_and_makes_it_not_ready() -> None:
    status = fleet(
        supervisor(workers=1),
        worker(0, shard(0), shard(1, "cancelled", "the queue was deleted"), shard(2, "blocked", "low on memory")),
    )
    document = readiness(call(status, NOW))
    assert document["status"] == "not_ready"
    assert document["services"] == {"rabbitmq": "connected"}
    assert document["checks"] == {"message_queue": "unavailable"}
    assert document["degraded"] == ["shard 1 is cancelled: the queue was deleted", "shard 2 is blocked: low on memory"]


def test_a_stopped_worker_is_named_among_others_that_go_on() -> None:
    document = readiness(call(fleet(supervisor(), worker(0, shard(0)), worker(1, shard(1), beat_age=11)), NOW))
    assert document["status"] == "not_ready"
    assert document["degraded"][0] == "worker 1 has not beaten for 11 s"


def test_a_worker_that_never_came_is_missed() -> None:
    document = readiness(call(fleet(supervisor(workers=3), worker(0, shard(0)), worker(1, shard(1))), NOW))
    assert document["status"] == "not_ready"
    assert document["degraded"] == ["1 of 3 workers are not there"]


def test_why_a_process_is_not_heard_is_said_and_makes_nothing_worse() -> None:
    started_badly = replace(supervisor(), refusing=["exporter"])
    status = replace(healthy(), supervisor=started_badly, skipped={"status/worker-7.json": "it can't be read"})
    document = readiness(call(status, NOW))
    assert document["status"] == "ready"
    assert document["degraded"] == [
        "exporter couldn't start as it is set up, and is tried again: its log says why",
        "status/worker-7.json is left out: it can't be read",
    ]
    gone = replace(status, supervisor=replace(started_badly, beat_at=NOW - 60))
    assert "exporter couldn't start" not in str(readiness(call(gone, NOW))["degraded"])


def test_connected_and_not_consuming_is_not_ready() -> None:
    document = readiness(call(fleet(supervisor(), worker(0, shard(0, "cancelled"))), NOW))
    assert document["status"] == "not_ready"
    assert document["services"] == {"rabbitmq": "connected"}
    assert document["checks"] == {"message_queue": "unavailable"}


def test_a_worker_that_opens_its_shards_keeps_the_service_from_ready() -> None:
    opening = worker(1, shard(1, "opening"), shard(3, "opening"))
    document = readiness(call(fleet(supervisor(workers=2), worker(0, shard(0), shard(2)), opening), NOW))
    assert document["status"] == "not_ready"
    assert document["degraded"] == ["shards 1 and 3 are opening"]


@pytest.mark.parametrize(
    "status",
    [
        fleet(supervisor(), worker(0, shard(0, "opening"))),
        fleet(supervisor(), worker(0, shard(0, "connecting"))),
        fleet(supervisor(), worker(0, shard(0), beat_age=11)),
        fleet(None),
    ],
    ids=["opening", "connecting", "silent", "no worker"],
)
def test_without_a_connection_rabbitmq_is_disconnected(status: FleetStatus) -> None:
    document = readiness(call(status, NOW))
    assert document["status"] == "not_ready"
    assert document["services"] == {"rabbitmq": "disconnected"}
    assert document["degraded"]


def found(
    name: str = "postgres", cause: str = "", age: float = 1.0, *conditions: Condition, required: bool = True
) -> Finding:
    return Finding(name, required, not cause, cause, conditions, NOW - age, 0.004, "closed", 20.0)


def ready(*dependencies: Finding, resources: tuple[Usage, ...] = ()) -> Document:
    return readiness(call(healthy(), NOW), Findings(dependencies, resources))


MIGRATED = Condition("database_migration", met=True, cause="", required=True)
PENDING = Condition("database_migration", met=False, cause="applied is a1, expected b2", required=True)
WARM = Condition("cache_warm", met=True, cause="", required=False)
COLD = Condition("cache_warm", met=False, cause="there is no key 'warm'", required=False)


def test_ready_has_the_strategys_words_for_all_that_is_configured() -> None:
    document = ready(found("postgres", "", 1.0, MIGRATED), found("redis", "", 1.0, WARM), found("billing"))
    assert document["status"] == "ready"
    assert document["services"] == {
        "rabbitmq": "connected",
        "postgres": "connected",
        "redis": "connected",
        "billing": "connected",
    }
    assert document["checks"] == {"database_migration": "complete", "cache_warm": "true", "message_queue": "available"}


def test_each_result_tells_its_age_and_its_breaker() -> None:
    assert ready(found(age=3.25))["dependencies"]["postgres"] == {
        "state": "connected",
        "required": True,
        "age_seconds": 3.25,
        "duration_seconds": 0.004,
        "breaker": "closed",
        "cause": "",
    }


def test_a_required_dependency_that_fails_makes_it_not_ready_with_the_reason() -> None:
    document = ready(found("postgres", "Connection refused", 1.0, PENDING))
    assert document["status"] == "not_ready"
    assert document["services"]["postgres"] == "disconnected"
    assert document["checks"]["database_migration"] == "pending"
    assert document["degraded"] == ["postgres is disconnected: Connection refused"]


def test_an_optional_one_makes_it_degraded_and_leaves_it_ready() -> None:
    document = ready(found("billing", "it answers with status 500", required=False))
    assert document["status"] == "ready"
    assert document["degraded"] == ["billing is disconnected: it answers with status 500"]


def test_a_pending_migration_is_not_ready_and_a_cold_cache_only_degraded() -> None:
    pending, cold = ready(found("postgres", "", 1.0, PENDING)), ready(found("redis", "", 1.0, COLD))
    assert (pending["status"], pending["checks"]["database_migration"]) == ("not_ready", "pending")
    assert pending["degraded"] == ["database_migration is pending: applied is a1, expected b2"]
    assert (cold["status"], cold["checks"]["cache_warm"]) == ("ready", "false")
    assert cold["degraded"] == ["cache_warm is false: there is no key 'warm'"]


def test_a_result_that_grew_too_old_is_not_believed() -> None:
    document = ready(found("postgres", "", 21.0, MIGRATED))
    assert document["services"]["postgres"] == "disconnected"
    assert document["checks"]["database_migration"] == "pending"
    assert document["degraded"] == ["postgres is disconnected: it was last checked 21 s ago"]


def test_what_has_not_been_checked_yet_is_not_ready() -> None:
    unchecked = Finding("redis", True, False, UNCHECKED, (), None, 0.0, "closed", 20.0)  # noqa: FBT003 - as they stand
    document = ready(unchecked)
    assert document["status"] == "not_ready"
    assert document["dependencies"]["redis"]["age_seconds"] is None


def test_what_workers_find_in_the_way_of_envelopes_is_told_once_and_only_degrades() -> None:
    workers = [replace(worker(number, shard(number)), obstacles=["no ring"]) for number in (0, 1)]
    document = readiness(call(fleet(supervisor(), *workers), NOW))
    assert (document["status"], document["degraded"]) == ("ready", ["no ring"])


def test_a_resource_over_its_threshold_is_degraded_and_ready() -> None:
    usage = (Usage("memory", 0.95, 0.9, NOW - 2), Usage("disk", 0.5, 0.9, NOW - 2))
    document = ready(resources=usage)
    assert document["status"] == "ready"
    assert document["degraded"] == ["memory is 95% used, over 90%"]
    assert document["resources"]["memory"] == {"state": "high", "ratio": 0.95, "threshold": 0.9, "age_seconds": 2.0}
    assert document["resources"]["disk"]["state"] == "ok"


def test_the_fleets_own_readiness_asks_for_no_other_dependency() -> None:
    assert not list(fleet_reasons(call(healthy(), NOW)))
