import json
from dataclasses import replace

import pytest

from busmon.exporter.overview.fill import FamilyRow
from busmon.exporter.overview.overview import (
    MAX_REJECTED,
    MAX_ROWS,
    AgentRow,
    Overview,
    RejectedRow,
    Scraped,
    SeriesUse,
    Surroundings,
    overview,
)
from busmon.exporter.overview.window import Figures, Window
from busmon.exporter.readiness.documents import liveness, readiness
from busmon.exporter.readiness.rollcall import call
from busmon.registry.storage.rejected_samples import RejectedSample
from busmon.status import FleetStatus
from tests.unit.exporter.fleet import NOW, healthy, replicated, supervisor, worker

SURROUNDINGS = Surroundings(
    version="1.2.3",
    scrape="http://127.0.0.1:9797/metrics",
    exchange="telemetry",
    series_used=9,
    series_budget=1000,
    scraped=Scraped(3.0, 0.01, 4096),
    skipped={"x.db": "it is empty"},
    rejected=[
        RejectedSample(NOW - 2, 1, "invalid_value", "writer", "queue_size", {"queue": "q"}, "x", "'value' is a number"),
        RejectedSample(NOW - 3, 0, "invalid_value", "writer", "queue_size", {"queue": "r"}, "y", "'value' is a number"),
        RejectedSample(NOW - 9, 0, "unknown_metric", "writer", "nodes", {}, "1", "no catalogue names it"),
    ],
)
LATEST = Figures(
    2.0,
    envelopes=220,
    by_shard={"0": 100, "1": 120},
    heard={"planner": NOW - 1, "writer": NOW - 90, "analyzer": NOW + 5},
    rejected_of={"writer": 4},
    dropped_of={"planner": 2},
    series=7,
    families=(FamilyRow("queue_size", "gauge", 7, 9, 100, "queue", 7, 10),),
)


def told(
    latest: Figures = LATEST, status: FleetStatus | None = None, surroundings: Surroundings = SURROUNDINGS
) -> Overview:
    window = Window()
    window.add(Figures(1.0, envelopes=100))
    window.add(latest)
    roll = call(status or healthy(), NOW)
    return overview(window, roll, liveness(roll, "1.2.3", NOW), readiness(roll), surroundings)


def test_an_overview_survives_its_journey_as_json() -> None:
    model = told()
    assert Overview.from_json(json.loads(json.dumps(model.as_json()))) == model
    unscraped = replace(model, scraped=None)
    assert Overview.from_json(json.loads(json.dumps(unscraped.as_json()))) == unscraped


def test_what_another_version_wrote_is_refused() -> None:
    fields = told().as_json()
    with pytest.raises(KeyError):
        Overview.from_json({name: value for name, value in fields.items() if name != "rates"})
    with pytest.raises(TypeError):
        Overview.from_json({**fields, "rates": {"of another version": 1}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"uptime_seconds": "\x1b[2J"},
        {"ready": None},
        {"degraded": ["half a pair: \ud83d"]},
        {"agents_known": 10**400},
        {"rates": {"envelopes": float("nan")}},
        {"latency": {"p99": "soon"}},
        {"scraped": {"seconds_ago": 1.0, "took_seconds": float("inf"), "size_bytes": 1}},
        {"agents": [{"agent": "a", "silent_seconds": [], "rejected": 0, "dropped": 0}]},
    ],
    ids=" ".join,
)
def test_a_value_of_another_type_is_refused_wherever_it_stands(wrong: dict[str, object]) -> None:
    with pytest.raises(TypeError):
        Overview.from_json({**told().as_json(), **wrong})


def test_it_says_what_the_documents_and_the_window_say() -> None:
    model = told()
    assert (model.alive, model.ready, model.rates.envelopes) == ("alive", "ready", 120)
    assert [row.rate for row in model.shards] == [100, 120, 0, 0]
    assert model.series == SeriesUse(7, 9, 1000)
    assert {"rabbitmq", "message_queue"} <= {row.name for row in model.dependencies}


def test_agents_come_longest_silent_first_by_minutes_then_by_name_and_never_from_the_future() -> None:
    assert told().agents == [
        AgentRow("writer", 90.0, 4, 0),
        AgentRow("analyzer", 0.0, 0, 0),
        AgentRow("planner", 1.0, 0, 2),
    ]


def test_the_last_rejected_sample_of_each_reason_and_agent_is_shown() -> None:
    assert told().rejected_samples == [
        RejectedRow(2.0, "invalid_value", "writer", "queue_size", {"queue": "q"}, "x", "'value' is a number"),
        RejectedRow(9.0, "unknown_metric", "writer", "nodes", {}, "1", "no catalogue names it"),
    ]


def test_rejected_samples_are_bounded() -> None:
    many = [RejectedSample(NOW, 0, "invalid_value", f"agent {number}", "", {}, "", "") for number in range(100)]
    assert len(told(surroundings=SURROUNDINGS._replace(rejected=many)).rejected_samples) == MAX_REJECTED


def test_what_publishers_name_is_bounded_and_counted() -> None:
    many = LATEST._replace(
        heard={f"agent {number}": NOW - number for number in range(5000)},
        families=tuple(FamilyRow(f"family_{number}", "counter", 1) for number in range(5000)),
    )
    model = told(many)
    assert (len(model.agents), model.agents_known) == (MAX_ROWS, 5000)
    assert (len(model.families), model.families_known) == (MAX_ROWS, 5000)
    assert model.agents[0].silent_seconds // 60 == 4999 // 60
    assert model.agents[-1].silent_seconds < 60


def test_bodies_in_quarantine_and_full_budgets_are_notices_and_not_faults() -> None:
    families = (
        FamilyRow("api_requests_total", "counter", 9, 9, 100, "endpoint", 10, 10, 1234),
        FamilyRow("queue_size", "gauge", 7, 100, 100, "queue", 7, 10),
        FamilyRow("room_left_total", "counter", 1, 99, 100, "queue", 9, 10, 5),
    )
    worker_0, *others = healthy().workers
    status = FleetStatus(healthy().supervisor, (replace(worker_0, quarantined=3), *others))
    model = told(LATEST._replace(families=families), status)
    assert model.quarantined == 3
    assert model.degraded == []
    assert model.notices == [
        "3 bodies are in quarantine: `busmon quarantine list` shows why",
        "api_requests_total: label 'endpoint' has all of its 10 values; over the budget: 1,234 samples so far",
        "queue_size: all of its 100 series exist; over the budget: none so far",
    ]


def test_an_empty_quarantine_is_no_notice_and_an_unknown_one_is_unknown() -> None:
    worker_0, *others = healthy().workers
    known = told(status=FleetStatus(healthy().supervisor, (replace(worker_0, quarantined=0), *others)))
    assert (known.quarantined, known.notices) == (0, [])
    silent = replace(worker_0, quarantined=7, beat_at=NOW - 60)
    assert told(status=FleetStatus(healthy().supervisor, (silent, *others))).quarantined is None


def test_many_full_families_are_counted() -> None:
    families = tuple(FamilyRow(f"family_{number}", "counter", 1, 5, 5) for number in range(7))
    assert told(LATEST._replace(families=families)).notices[-1] == "4 more families have reached a budget"


def test_a_dead_fleet_is_told_with_its_causes() -> None:
    model = told(status=FleetStatus(supervisor(beat_age=60), ()))
    assert model.alive == "dead"
    assert "the supervisor has not beaten for 60 s" in model.degraded


def test_a_replica_travels_with_its_shard() -> None:
    roll = call(FleetStatus(supervisor(workers=1), (worker(0, replicated(0, "following", "host-b")),)), NOW)
    alive, ready = liveness(roll, "1.2.3", NOW), readiness(roll)
    before = overview(Window(), roll, alive, ready, SURROUNDINGS)
    after = Overview.from_json(json.loads(json.dumps(before.as_json())))
    assert after == before
    assert after.shards[0].replica == roll.shards[0].replica
