import io
from dataclasses import asdict, replace
from typing import Any

import pytest
from rich.console import Console, RenderableType

from busmon.exporter.overview.dependencies import Dependency
from busmon.exporter.overview.fill import FamilyRow
from busmon.exporter.overview.overview import AgentRow, Overview, SeriesUse, ShardFlow, Totals
from busmon.exporter.overview.window import History, Latency, Rates
from busmon.exporter.readiness.rollcall import RollCall, call
from busmon.status import FleetStatus
from busmon.top import screen
from busmon.top.tables import NONE
from tests.unit.exporter.fleet import NOW, replicated, shard, supervisor, worker


def flows(roll: RollCall) -> list[ShardFlow]:
    return [ShardFlow.from_json({**asdict(row), "rate": 10.0, "p99": 0.1}) for row in roll.shards]


def model(shards: int = 4) -> Overview:
    halves = [shard(k, depth=12 * k) for k in range(shards)]
    roll = call(FleetStatus(supervisor(), (worker(0, *halves[::2]), worker(1, *halves[1::2]))), NOW)
    return Overview(
        at=NOW,
        version="1.2.3",
        uptime_seconds=100,
        scrape="http://127.0.0.1:9797/metrics",
        exchange="telemetry",
        alive="alive",
        ready="ready",
        degraded=[],
        notices=[],
        quarantined=0,
        dependencies=[Dependency("rabbitmq", "service", "connected", "good")],
        rates=Rates(1234.5, 9876.5, 0),
        latency=Latency(0.0123, 2.5),
        totals=Totals(1e6, 12_345_678, 3, 4, {"bad_value": 5.0}, {"invalid_json": 2.0, "too_large": 9.0}),
        history=History([2.0 * (k - 59) for k in range(60)], [float(k % 20) for k in range(60)]),
        shards=flows(roll),
        workers=roll.workers,
        agents=[AgentRow(f"agent-{number}", 900.0 - number, 0, 0) for number in range(30)],
        agents_known=30,
        rejected_samples=[],
        families=[FamilyRow(f"family_{number}", "gauge", 5, 5, 100, "queue", 90, 100) for number in range(30)],
        families_known=30,
        series=SeriesUse(1234, 2345, 1_000_000),
        scraped=None,
        skipped={"counter_x.db": "it is empty"},
    )


def lines(overview: Overview, notice: str = "", width: int = 80, height: int = 24) -> list[str]:
    return lines_of(screen.frame(overview, notice, height), width)


def lines_of(renderable: RenderableType, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(renderable)
    return console.export_text().splitlines()


def test_a_fleet_of_eight_shards_with_every_loss_fits_80_by_24() -> None:
    frame = lines(model(shards=8))
    assert len(frame) <= 24
    assert max(map(len, frame)) <= 80
    assert not [line for line in frame if "…" in line]


def test_what_a_person_looks_for_is_there() -> None:
    text = "\n".join(lines(model()))
    for figure in ("1,234", "9,876", "12.3 ms", "2.5 s", "http://127.0.0.1:9797/metrics", "every shard is consuming"):
        assert figure in text
    assert "too_large 9 · invalid_json 2" in text


def test_what_is_not_known_is_a_dash() -> None:
    text = "\n".join(lines(replace(model(0), rates=Rates(None, None), latency=Latency(None, None), history=History())))
    assert text.count(NONE) >= 5


@pytest.mark.parametrize(
    ("ready", "degraded", "line"),
    [
        ("ready", ["shard 1 is blocked"], "● ready, degraded: shard 1 is blocked"),
        ("standby", ["another fleet consumes too"], "● standby: another fleet consumes too"),
        ("standby", [], "● standby: the broker serves another fleet"),
        ("not_ready", ["shard 0 is cancelled", "shard 1 is blocked"], "● not ready: shard 0 is cancelled (and 1 more)"),
    ],
)
def test_what_is_wrong_is_said(ready: str, degraded: list[str], line: str) -> None:
    assert line in lines(replace(model(), ready=ready, degraded=degraded))[1]


def test_what_waits_for_a_person_is_said_where_nothing_is_wrong() -> None:
    waiting = replace(model(), notices=["3 bodies are in quarantine: `busmon quarantine list` shows why", "one more"])
    line = lines(waiting, width=120)[1]
    assert "● ready, warning: 3 bodies are in quarantine: `busmon quarantine list` shows why (and 1 more)" in line


def test_a_notice_stands_above_the_last_figures() -> None:
    frame = lines(model(), notice="no exporter answers")
    assert "no exporter answers" in frame[1]
    assert "1,234" in "\n".join(frame)


def test_a_sparkline_is_in_proportion_to_its_peak() -> None:
    assert screen.spark([0, 1, 2, 7]) == "▁▂▃█"
    assert screen.spark([0, 0]) == "▁▁"
    assert screen.spark([]) == ""


@pytest.mark.parametrize("height", [10, 24, 30, 40])
def test_a_taller_terminal_is_filled_and_never_overflows(height: int) -> None:
    frame = lines(model(shards=2), width=100, height=height)
    assert len(frame) <= max(height, 24)
    assert any("agent-0" in line for line in frame) == (height >= 24)
    if height >= 24:
        assert any("● rabbitmq connected" in line for line in frame)
        assert any("more agents" in line and "more families" in line for line in frame)


def test_80_by_24_shows_dependencies_and_some_agents_and_says_how_many_are_left_out() -> None:
    frame = lines(quiet(model(shards=4)))
    assert len(frame) == 24 - len(lines_of(screen.hint()))
    text = "\n".join(frame)
    for shown in ("● rabbitmq connected", "agent-3", "family_3", "26 more agents · 26 more families"):
        assert shown in text


def test_where_no_agent_fits_dependencies_are_shown_and_all_agents_counted() -> None:
    frame = lines(quiet(model(shards=8)))
    assert "● rabbitmq connected" in frame[-2]
    assert "30 more agents · 30 more families" in frame[-1]


@pytest.mark.parametrize("width", [70, 80, 100])
def test_no_figure_and_no_state_is_cut_or_wrapped(width: int) -> None:
    frame = lines(quiet(model(shards=4)), width=width, height=16)
    text = "\n".join(frame)
    assert len(frame) == 13
    assert "…" not in text
    assert text.count("consuming") == 5
    assert "p99 latency queued" in " ".join(text.split())


@pytest.mark.parametrize("width", [70, 80, 100])
def test_long_names_are_cut_and_their_figures_never(width: int) -> None:
    agents = [AgentRow(f"a-very-long-agent-name-{number}", 59.0, 12_345, 0) for number in range(30)]
    families = [FamilyRow("message_processing_duration_seconds", "histogram", 5678, 5, 100, "", 0, 0)] * 30
    frame = lines(quiet(replace(model(), agents=agents, families=families)), width=width)
    assert len(frame) == 22
    figures = [line.split() for line in frame if "a-very-long" in line]
    assert [(line[1:4], line[-1]) for line in figures] == [(["59", "s", "12,345"], "5,678")] * 4


def test_what_is_wrong_stands_first_among_many_dependencies() -> None:
    fine = [Dependency(f"a-service-of-the-platform-{number}", "service", "connected", "good") for number in range(9)]
    lost = Dependency("zebra", "service", "disconnected", "bad")
    (line,) = [line for line in lines(quiet(replace(model(), dependencies=[*fine, lost]))) if "depends on" in line]
    assert line.split("depends on")[1].lstrip().startswith("■ zebra disconnected")


def test_a_wide_terminal_cuts_no_name_that_it_has_room_for() -> None:
    agent, family = "recommendation-engine-eu-central-1a-7f9c2d5", "busmon_last_envelope_timestamp_seconds"
    wide = replace(
        model(),
        agents=[AgentRow(agent, 3.0, 0, 0), AgentRow("short", 3.0, 0, 0)],
        families=[FamilyRow(family, "gauge", 5, 5, 100, "agent", 90, 100)],
    )
    text = "\n".join(lines(quiet(wide), width=140, height=40))
    assert agent in text
    assert family in text
    assert "agent 90/100" in text
    assert any(line.rstrip().endswith("agent 90/100") for line in lines(quiet(wide), width=120, height=40))


def test_a_latency_in_the_first_bucket_is_only_said_to_be_there() -> None:
    text = "\n".join(lines(replace(model(), latency=Latency(0.005, 0.0099, 0.01))))
    assert text.count("< 10 ms") == 2
    assert "p99 latency 12.3 ms" in screen.in_one_line(replace(model(), latency=Latency(0.01, 0.0123, 0.01)))


def test_a_small_peak_is_told_in_two_digits() -> None:
    text = "\n".join(lines(replace(model(), history=History([-2.0, 0.0], [0.0, 0.0346]))))
    assert "peak 0.035 envelopes/s in 2.0 s" in text


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (100, "▁" * 40 + "▂" * 11 + "█  peak 337 envelopes/s in 1m 42s"),
        (60, "▁" * 15 + "▂" * 11 + "█  peak 337 envelopes/s in 52 s"),
    ],
)
def test_a_sparkline_names_its_unit_and_its_time_and_is_as_long_as_there_is_room(width: int, line: str) -> None:
    past = History([2.0 * (k - 59) for k in range(60)], [*[0.0] * 48, *[40.0] * 11, 337.0])
    assert lines(replace(model(), history=past), width=width)[6].strip() == line


def test_a_line_divides_tables_with_a_column_of_the_same_name() -> None:
    frame = lines(quiet(model(shards=2)), height=40)
    assert frame[8].split() == ["shard", "queued", "worker", "state", "commit", "│", "worker", "pid", "up", "restarts"]
    assert [line.count("│") for line in frame[8:11]] == [1, 1, 1]
    assert next(line for line in frame if "silent" in line).split() == [
        "agent",
        "silent",
        "rejected",
        "│",
        "family",
        "series",
    ]


ALL_FIGURES = "envelopes/s samples/s p50 latency p99 latency queued all samples"


@pytest.mark.parametrize(
    ("width", "headline", "heads"),
    [
        (79, ALL_FIGURES, "shard queued worker state commit │ worker pid up restarts"),
        (70, ALL_FIGURES, "shard queued worker state commit │ worker up restarts"),
        (60, "envelopes/s samples/s p99 latency queued all samples", "shard queued worker state │ worker up restarts"),
        (50, "envelopes/s samples/s p99 latency queued", "shard queued worker state │ worker up"),
    ],
)
def test_a_narrow_terminal_drops_columns_and_cuts_none(width: int, headline: str, heads: str) -> None:
    frame = lines(quiet(model(shards=4)), width=width, height=30)
    assert frame[3].split() == headline.split()
    assert frame[8].split() == heads.split()
    assert "…" not in "\n".join([*frame[2:14], *frame[16:]])
    assert max(map(len, frame)) <= width


@pytest.mark.parametrize(
    ("width", "heads"),
    [
        (80, "shard queued owner replica behind │ worker pid up restarts"),
        (60, "shard queued replica behind │ worker up restarts"),
    ],
)
def test_a_narrow_terminal_drops_a_replicas_owner(width: int, heads: str) -> None:
    shards = (replicated(0), replicated(1, "following", "host-b"))
    roll = call(FleetStatus(supervisor(workers=1), (worker(0, *shards),)), NOW)
    frame = lines(replace(model(0), shards=flows(roll), workers=roll.workers), width=width)
    assert frame[8].split() == heads.split()


def quiet(overview: Overview) -> Overview:
    """Without losses."""
    nothing = replace(overview.totals, publisher_dropped=0, rejected={}, quarantined={})
    return replace(overview, totals=nothing, skipped={})


def test_a_name_that_a_publisher_made_up_cant_steer_the_terminal() -> None:
    hostile = AgentRow("\x1b[2Jmine\r\n[red]", 1.0, 0, 0)
    text = drawn(replace(model(), agents=[hostile], degraded=["\x1b]0;mine\x07"], skipped={"\x1b[H.db": "it is empty"}))
    assert "\x1b" not in text
    assert "�[2Jmine��[red]" in text


def drawn(overview: Overview, notice: str = "") -> str:
    """Draw for a terminal without colours."""
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(screen.frame(overview, notice, lines=50))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    return text


STEERING = "\x1b[2J\x07\x00\r\n\t\x7f\x9b31m\u202e"


def test_no_text_of_an_exporter_wherever_it_stands_steers_the_terminal() -> None:
    hostile = Overview.from_json(steering(model().as_json()))
    text = drawn(hostile) + drawn(hostile, notice=STEERING)
    assert {character for character in text if not character.isprintable()} == {"\n"}
    assert text.count("\n") == 2 * drawn(replace(model(), ready="not_ready")).count("\n")


def steering(told: Any) -> Any:
    """The same fields, with what steers a terminal in every text, names of fields apart."""
    if isinstance(told, str):
        return told + STEERING
    if isinstance(told, list):
        return [steering(each) for each in told]
    if isinstance(told, dict):
        return {key: steering(each) for key, each in told.items()}
    return told


def test_a_replicated_fleet_shows_owner_and_lag_of_each_shard() -> None:
    shards = (replicated(0), replicated(1, "following", "rabbit-host-with-a-long-name"), replicated(2, "reading", ""))
    roll = call(FleetStatus(supervisor(workers=1), (worker(0, *shards),)), NOW)
    frame = lines(replace(model(0), shards=flows(roll), workers=roll.workers))
    table = [line.split() for line in frame if "owner" in line or line.split()[:1] in (["0"], ["1"], ["2"])]
    assert table[0][:5] == ["shard", "queued", "owner", "replica", "behind"]
    assert table[1][:6] == ["0", "0", "host-a", "owning", "1.5", "s"]
    assert table[2][:4] == ["1", "0", "rabbit-ho…", "following"]
    assert table[3][:5] == ["2", "0", NONE, "reading", NONE]
    assert max(map(len, frame)) <= 80
