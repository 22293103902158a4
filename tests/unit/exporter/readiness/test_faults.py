"""The root cause comes first, once, and what follows from it is folded into it."""

from dataclasses import replace

import pytest

from busmon.exporter.overview.overview import Surroundings, overview
from busmon.exporter.overview.window import Window
from busmon.exporter.readiness.documents import readiness
from busmon.exporter.readiness.rollcall import call
from busmon.status import FleetStatus, ShardStatus, WorkerStatus
from tests.unit.exporter.fleet import NOW, shard, supervisor, worker

BROKER = "rabbit.example:5672"
REFUSED = "unreachable: Connection refused"


def at_broker(number: int, *shards: ShardStatus, obstacles: tuple[str, ...] = ()) -> WorkerStatus:
    return replace(worker(number, *shards), broker=BROKER, obstacles=[*obstacles])


def fleet(*workers: WorkerStatus) -> FleetStatus:
    return FleetStatus(supervisor(workers=len(workers)), workers)


def degraded(*workers: WorkerStatus) -> list[str]:
    document = readiness(call(fleet(*workers), NOW))
    assert document["status"] == "not_ready"
    return [*document["degraded"]]


def test_a_broker_that_is_down_is_said_once_and_first() -> None:
    why = "what the quarantine drops isn't counted: unreachable: Connection refused"
    workers = (
        at_broker(0, shard(0, "connecting", REFUSED), shard(2, "connecting", REFUSED), obstacles=(why,)),
        at_broker(1, shard(1, "connecting", REFUSED), shard(3, "connecting", REFUSED)),
    )
    root = "RabbitMQ at rabbit.example:5672 is unreachable: Connection refused"
    assert degraded(*workers) == [root]
    document = readiness(call(fleet(*workers), NOW))
    assert document["dependencies"]["rabbitmq"]["cause"] == root
    assert document["services"]["rabbitmq"] == "disconnected"
    surroundings = Surroundings("1", "127.0.0.1:9797", "telemetry", 0, 1, None, {})
    alive = {"status": "alive", "uptime": 1}
    seen = overview(Window(), call(fleet(*workers), NOW), alive, document, surroundings)
    assert seen.degraded == [root]
    assert [row.detail for row in seen.dependencies if row.name == "rabbitmq"] == [root]


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (
            "refused: ACCESS_REFUSED - Login was refused",
            "RabbitMQ at rabbit.example:5672 refuses the connection: ACCESS_REFUSED - Login was refused",
        ),
        (
            "heartbeat_timeout: No activity",
            "the connection to RabbitMQ at rabbit.example:5672 was lost: heartbeat_timeout: No activity",
        ),
        ("", "workers are connecting to RabbitMQ at rabbit.example:5672"),
    ],
)
def test_why_there_is_no_connection_is_said_in_words(cause: str, said: str) -> None:
    assert degraded(at_broker(0, shard(0, "connecting", cause), shard(1, "connecting", cause))) == [said]


def test_of_shards_that_others_still_serve_only_those_that_wait_are_named() -> None:
    assert degraded(
        at_broker(0, shard(0), shard(2)),
        at_broker(1, shard(1, "connecting", REFUSED), shard(3, "connecting", REFUSED)),
    ) == ["RabbitMQ at rabbit.example:5672 is unreachable: Connection refused; shards 1 and 3 wait"]
    assert degraded(at_broker(0, shard(0)), at_broker(1, shard(1, "connecting", REFUSED))) == [
        "RabbitMQ at rabbit.example:5672 is unreachable: Connection refused; shard 1 waits"
    ]


def test_two_causes_are_two_lines() -> None:
    assert degraded(
        at_broker(0, shard(0, "connecting", REFUSED)), at_broker(1, shard(1, "connecting", "connection_lost: reset"))
    ) == [
        "RabbitMQ at rabbit.example:5672 is unreachable: Connection refused; shard 0 waits",
        "the connection to RabbitMQ at rabbit.example:5672 was lost: connection_lost: reset; shard 1 waits",
    ]


def test_shards_that_say_the_same_share_a_line() -> None:
    blocked = ("blocked", "connection_blocked: low on memory")
    assert degraded(at_broker(0, shard(0, *blocked), shard(1), shard(2, *blocked), shard(3, *blocked))) == [
        "shards 0, 2 and 3 are blocked: connection_blocked: low on memory"
    ]


def test_another_workers_obstacle_stays() -> None:
    why = "can't make the ring"
    cut_off = at_broker(1, shard(1, "connecting", REFUSED))
    assert degraded(at_broker(0, shard(0), obstacles=(why,)), cut_off)[1:] == [why]


def waiting(number: int, seconds: float | None, depth: int = 3) -> ShardStatus:
    return replace(shard(number, depth=depth), waiting_seconds=seconds)


def test_a_shard_whose_envelopes_wait_and_are_not_committed_is_stalled() -> None:
    assert degraded(worker(0, waiting(0, 16.2), shard(1)), worker(1, waiting(2, 20.0, depth=1))) == [
        "shard 0 is stalled: 3 envelopes wait, and none was committed for 16 s",
        "shard 2 is stalled: 1 envelope waits, and none was committed for 20 s",
    ]
    document = readiness(call(fleet(worker(0, waiting(0, 16.2))), NOW))
    assert document["shards"][0]["waiting_seconds"] == 16.2
    assert document["checks"] == {"message_queue": "unavailable"}


@pytest.mark.parametrize("seconds", [None, 0.0, 14.9])
def test_a_shard_whose_envelopes_wait_for_less_is_ready(seconds: float | None) -> None:
    document = readiness(call(fleet(worker(0, waiting(0, seconds))), NOW))
    assert (document["status"], document["degraded"]) == ("ready", [])


def test_a_fleet_that_stands_by_is_not_stalled() -> None:
    standby = replace(worker(0, waiting(0, 60.0), replace(waiting(1, 60.0), is_served=True)), has_rivals=True)
    (said,) = degraded(standby)
    assert said.startswith("shard 1 is stalled")


def test_shards_that_the_broker_may_serve_to_another_fleet_stand_by_and_block_nothing() -> None:
    served = replace(shard(1), is_served=True)
    sees = replace(worker(0, shard(0), shard(2)), has_rivals=True, rivals="another fleet consumes too")
    document = readiness(call(fleet(sees, worker(1, served)), NOW))
    assert document["status"] == "standby"
    assert document["degraded"] == ["another fleet consumes too; here shards 0 and 2 stand by"]
    assert document["checks"] == {"message_queue": "available"}
    assert [(row["state"], row["cause"]) for row in document["shards"]] == [
        ("standby", "nothing is delivered here while another consumer is registered"),
        ("consuming", ""),
        ("standby", "nothing is delivered here while another consumer is registered"),
    ]


def test_a_fleet_that_is_served_has_nothing_to_say_of_another() -> None:
    served = [replace(shard(number), is_served=True) for number in range(2)]
    sees = replace(worker(0, *served), has_rivals=True, rivals="another fleet consumes too")
    document = readiness(call(fleet(sees), NOW))
    assert (document["status"], document["degraded"]) == ("ready", [])


def test_a_fault_is_worse_than_standing_by() -> None:
    sees = replace(worker(0, shard(0), shard(1, "blocked", "low on memory")), has_rivals=True)
    document = readiness(call(fleet(sees), NOW))
    assert (document["status"], document["degraded"]) == ("not_ready", ["shard 1 is blocked: low on memory"])
    assert [row["state"] for row in document["shards"]] == ["standby", "blocked"]


def test_a_silent_worker_says_nothing_of_rivals() -> None:
    silent = replace(worker(0, shard(0), beat_age=12), has_rivals=True, rivals="another fleet consumes too")
    document = readiness(call(fleet(silent, worker(1, shard(1))), NOW))
    assert [row["state"] for row in document["shards"]] == ["silent", "consuming"]
    assert "another fleet" not in str(document["degraded"])
