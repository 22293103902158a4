"""The simulated platform without processes and broker: repeatable by its seed, and what it counts."""

from collections import Counter
from typing import Any

import pytest

from busmon.catalogue import Catalogue
from busmon.catalogue.catalogue import PLATFORM
from busmon.cli import parser
from busmon.cli.simulate import table
from busmon.simulator.agent import Agent, role_of
from busmon.simulator.report import domain_of
from busmon.simulator.roles import ROLES
from busmon.simulator.simulation import Plan
from busmon.simulator.totals import Totals
from busmon.simulator.weather import FAIR, Weather
from busmon.wire.json_v1 import encode

CATALOGUE = Catalogue.load()


class Recording:
    """A report that adds up."""

    def __init__(self) -> None:
        self.counted: Counter[tuple[str, ...]] = Counter()
        self.observed: Counter[tuple[str, ...]] = Counter()
        self.shown: dict[tuple[str, ...], float] = {}

    def count(self, *series: str, by: float = 1) -> None:
        self.counted[series] += by  # type: ignore[assignment]  # a counter of floats

    def observe(self, *series: str, value: float) -> None:
        self.observed[series] += value  # type: ignore[assignment]  # as above

    def show(self, *series: str, value: float) -> None:
        self.shown[series] = value


def lived(seed: int, steps: int, numbers: range = range(len(ROLES)), weather: Weather = FAIR) -> Recording:
    recording = Recording()
    report: Any = recording
    for number in numbers:
        agent = Agent(report, number, seed, weather)
        agent.start()
        for step in range(steps):
            agent.step(step / 20)
        agent.stop()
    return recording


def test_a_seed_repeats_the_totals_and_another_changes_them() -> None:
    first, again, other = lived(1, 200), lived(1, 200), lived(2, 200)
    assert (first.counted, first.observed) == (again.counted, again.observed)
    assert first.counted != other.counted
    assert first.observed != other.observed


@pytest.mark.parametrize(
    ("incident", "series", "least"),
    [
        ("queue-overflow", ("queue_size", "tasks"), 900),
        ("pool-exhausted", ("connection_pool_active", "postgres"), 20),
        ("memory-leak", ("memory_usage_bytes", "analyzer"), 120 * 2**20 + 500_000),
    ],
)
def test_an_incident_repeats_by_its_seed_and_shows_in_its_own_series(
    incident: str, series: tuple[str, ...], least: float
) -> None:
    weather = Weather(incident, after_seconds=1)
    first, again = lived(1, 200, weather=weather), lived(1, 200, weather=weather)

    assert first.counted == again.counted
    assert first.shown[series] == again.shown[series]
    assert first.shown[series] >= least


def test_a_fifth_of_all_tasks_fails_where_that_is_the_incident() -> None:
    def failed(weather: Weather) -> float:
        counted = lived(1, 500, weather=weather).counted
        failures, tasks = (
            sum(by for series, by in counted.items() if series[0] == name)
            for name in ("task_failures_total", "tasks_processed_total")
        )
        return failures / tasks

    assert failed(FAIR) < 0.01
    assert 0.15 < failed(Weather("high-error-rate", after_seconds=0)) < 0.25


def test_a_dependency_that_is_down_shows_as_down_and_its_breaker_as_open() -> None:
    shown = lived(1, 40, weather=Weather("service-down", after_seconds=1)).shown

    assert shown["service_up", "postgres"] == 0
    assert shown["service_up", "redis"] == 1
    assert shown["circuit_breaker_state", "postgres", "open"] == 1


def test_slow_responses_are_slow() -> None:
    weather = Weather("slow-responses", after_seconds=0)
    series = ("api_request_duration_seconds", "/v1/tasks", "POST")

    assert lived(1, 200, weather=weather).observed[series] > 10 * lived(1, 200).observed[series]


def test_one_task_of_each_role_touches_every_family_with_its_own_labels() -> None:
    recording = lived(1, 1)
    series = {*recording.counted, *recording.observed, *recording.shown}
    platform = {name: family for name, family in CATALOGUE.families.items() if CATALOGUE.origins[name] == PLATFORM}
    assert {name for name, *_ in series} == {*platform}
    for name, *labelvalues in series:
        family = platform[name]
        assert len(labelvalues) == len(family.labelnames), name
        for labelname, labelvalue in zip(family.labelnames, labelvalues, strict=True):
            assert labelvalue in family.values.get(labelname, (labelvalue,)), name


def test_values_are_those_of_a_working_platform() -> None:
    recording = lived(1, 500)
    processed = dict.fromkeys(("success", "failure"), 0.0)
    for series, amount in recording.counted.items():
        if series[0] == "tasks_processed_total":
            processed[series[2]] += amount
    assert processed["failure"] + processed["success"] == sum(
        amount for series, amount in recording.counted.items() if series[0] == "tasks_submitted_total"
    )
    assert processed["failure"] + processed["success"] > 500 * len(ROLES) / 3
    assert 0 < processed["failure"] / processed["success"] < 0.1
    ratios = [value for series, value in recording.shown.items() if series[0] == "achievement_progress_ratio"]
    assert all(0 <= ratio <= 1 for ratio in ratios)
    for series, value in recording.shown.items():
        assert value >= 0, series
        if series[0] == "cpu_usage_percent":
            assert value <= 100
    for kind, (used, size) in {
        "pool": ("connection_pool_active", "connection_pool_size"),
        "memory": ("agent_memory_usage_bytes", "agent_memory_limit_bytes"),
        "disk": ("disk_usage_bytes", "disk_capacity_bytes"),
    }.items():
        for (name, *labels), value in recording.shown.items():
            if name == used:
                assert value < recording.shown[size, *labels], kind


def test_roles_differ_in_work_kinds_and_times() -> None:
    recording = lived(1, 2000)

    def of(name: str, place: int) -> Counter[str]:
        counted: Counter[str] = Counter()
        for series, amount in (recording.counted + recording.observed).items():
            if series[0] == name:
                counted[series[place]] += amount
        return counted

    tasks, kinds, seconds = (
        of("tasks_processed_total", 1),
        of("tasks_submitted_total", 1),
        of("task_duration_seconds", 1),
    )
    assert tasks["gateway"] > 3 * tasks["reviewer"]
    shares = sorted(amount / kinds.total() for amount in kinds.values())
    assert shares[0] < 0.6 * shares[-1]
    assert seconds["writer"] / tasks["writer"] > 5 * seconds["gateway"] / tasks["gateway"]


def test_work_comes_in_waves() -> None:
    role = role_of(0)
    loads = [role.load(seconds, phase=0.0) for seconds in range(3600)]

    assert min(loads) < 0.8 * role.busy
    assert max(loads) > 1.2 * role.busy
    assert all(0 <= each.load(seconds, 1.0) <= 1 for each in ROLES for seconds in range(3600))


def test_a_platform_in_order_fails_no_job_and_no_reload_and_no_queue_backs_up() -> None:
    """An hour at the peak, sampled at the demo's own rate, sets off none of the alerts of these series."""
    recording = lived(1, 3600 * 5, numbers=range(1))

    assert {
        series: amount for series, amount in recording.counted.items() if series[0] == "batch_jobs_failed_total"
    } == {("batch_jobs_failed_total", job): 0 for job in ("reindex", "digest", "cleanup")}
    assert not [
        series for series in recording.counted if series[0] == "config_reloads_total" and series[2] != "success"
    ]
    assert max(value for series, value in recording.shown.items() if series[0] == "queue_size") < 1000


def test_sums_are_the_same_in_any_order() -> None:
    values = [value for series, value in lived(1, 50).observed.items() if series[0].endswith("_seconds")]
    assert all(float(value * 2**16).is_integer() for value in values)


def test_families_have_the_domains_of_the_routing_key() -> None:
    domains = {name: domain_of(name) for name in CATALOGUE.families if CATALOGUE.origins[name] == PLATFORM}
    assert {*domains.values()} == {"task", "queue", "system", "business", "error", "lifecycle"}
    assert domains["tasks_processed_total"] == domains["active_tasks_count"] == "task"
    assert domains["batch_size"] == domains["queue_size"] == "queue"
    assert domains["batch_jobs_started_total"] == domains["active_agents"] == "lifecycle"
    assert domains["task_failures_total"] == "task"
    assert domains["errors_total"] == "error"


class TestPlan:
    def test_agents_are_spread_over_a_few_processes(self) -> None:
        tasks = list(Plan(agents=10).tasks())
        assert len(tasks) == 4
        assert sorted(number for task in tasks for number in task.numbers) == list(range(10))

    def test_one_agent_takes_one_process(self) -> None:
        assert [task.numbers for task in Plan(agents=1).tasks()] == [(0,)]

    @pytest.mark.parametrize(
        ("rate", "seconds", "steps"), [(20, 10, 200), (0.5, 1, 1), (0.1, 1, 1), (3, 0.5, 2), (20, 0, None)]
    )
    def test_it_is_a_number_of_tasks_and_not_a_time(self, rate: float, seconds: float, steps: int | None) -> None:
        assert {task.steps for task in Plan(rate=rate, seconds=seconds).tasks()} == {steps}


class TestTotals:
    TABLES = (
        {"name": "votes_cast_total", "labels": ["type"], "rows": [["upvote", 3], ["downvote", 1]]},
        {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["a", [0.5, 0.25]]]},
        {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["a", {"buckets": {"1": 2}, "sum": 1.5}]]},
        {"name": "queue_size", "labels": ["queue"], "rows": [["q", 7]]},
    )

    def test_counters_counts_and_sums_are_added_up_and_gauges_not(self) -> None:
        totals = Totals()
        body = encode("s", "a", 1.0, [], self.TABLES)
        for _ in range(2):
            totals.add_body(CATALOGUE, body)
        assert totals.series == {
            "votes_cast_total": {'{"type":"upvote"}': 6, '{"type":"downvote"}': 2},
            "task_duration_seconds_count": {'{"agent":"a"}': 8},
            "task_duration_seconds_sum": {'{"agent":"a"}': 4.5},
        }
        assert (totals.envelopes, totals.samples) == (2, 10)
        assert totals.totals()["votes_cast_total"] == 8

    def test_parts_are_merged(self) -> None:
        part, whole = Totals(), Totals()
        body = encode("s", "a", 1.0, [], self.TABLES)
        part.add_body(CATALOGUE, body)
        whole.add_body(CATALOGUE, body)
        whole.merge(part)
        twice = Totals()
        for _ in range(2):
            twice.add_body(CATALOGUE, body)
        assert whole == twice
        whole.merge(Totals(is_confirmed=False))
        assert not whole.is_confirmed

    def test_they_are_printed_a_line_each(self) -> None:
        totals = Totals()
        totals.add_body(CATALOGUE, encode("s", "a", 1.0, [], self.TABLES))
        lines = table(totals).splitlines()
        assert [line.split() for line in lines[:-1]] == [
            ["task_duration_seconds_count", "4"],
            ["task_duration_seconds_sum", "2.250"],
            ["votes_cast_total", "4"],
        ]
        assert lines[-1] == "confirmed: samples 5, envelopes 1"


@pytest.mark.parametrize(
    "wrong", [["--agents", "0"], ["--rate", "0"], ["--rate", "nan"], ["--seconds", "-1"], ["--seed", "x"]]
)
def test_a_wrong_number_is_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser().parse_args(["simulate", *wrong])
    assert ended.value.code == 2
    assert "isn't a" in capsys.readouterr().err
