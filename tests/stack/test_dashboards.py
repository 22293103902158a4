import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from busmon import dashboards, rules
from busmon.dashboards import BOARDS, Board
from busmon.dashboards.parts import promql
from tests.stack.known_rules import ALERTS, taught

DOCKER = Path(__file__).parents[2] / "docker"
COMMITTED = sorted((DOCKER / "grafana/dashboards").glob("*.json"))
KINDS_WITHOUT_UNIT = {"state-timeline", "heatmap", "table"}
VERDICTS = {"green", "yellow", "orange", "red"}
JUDGED = {"success", "failure", "critical", "error", "warning"}

# The monitoring strategy's panels, and the titles that show each.
STRATEGY: dict[str, dict[str, tuple[str, ...]]] = {
    "system": {
        "CPU & Memory Usage": ("CPU usage by host", "Memory usage by host"),
        "Network I/O": ("Network I/O",),
        "Disk Usage": ("Disk usage", "Disk I/O"),
        "Connection Pools": ("Pools in use now", "Pools in use", "Connections"),
        "Service Status": ("Service status",),
    },
    "agents": {
        "Active Agents": ("Active agents by type",),
        "Task Processing Rate": ("Tasks per minute by agent",),
        "Success/Failure Ratio": ("Successes and failures per minute", "Failure ratio by agent"),
        "Agent Lifecycle": ("Starts, stops and restarts", "Restarts by agent"),
        "Resource Usage per Agent": ("CPU by agent", "Memory by agent", "Network by agent"),
    },
    "tasks": {
        "Task Queue Depth": ("Tasks waiting, by priority",),
        "Processing Time Distribution": ("Processing time: p50, p95, p99", "Processing time distribution"),
        "Task Throughput": ("Tasks per minute", "Tasks per hour"),
        "Error Rate": ("Error rate", "Failed attempts by category"),
        "Task Types Distribution": ("Task types",),
    },
    "errors": {
        "Error Timeline": ("Error timeline",),
        "Error Categories": ("Error categories",),
        "Error Heatmap": ("Error heatmap",),
        "Top Errors": ("Top errors",),
        "Error Recovery Time": ("Error recovery time",),
    },
    "business": {
        "Voting Activity": ("Votes per minute", "Vote distribution"),
        "Achievement Progress": ("Achievements unlocked per hour", "Progress to the next achievement"),
        "Points Economy": ("Points earned and spent per minute", "User ranking"),
        "User Engagement": ("Users online", "Session duration"),
        "Content Metrics": ("Popular tasks and trending topics",),
    },
}


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCKER / f"grafana/dashboards/{name}.json").read_text())
    return loaded


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def fixed_colours(panel: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (override["matcher"]["options"], each["value"]["fixedColor"])
        for override in panel["fieldConfig"].get("overrides") or []
        for each in override["properties"]
        if each["id"] == "color"
    ]


every_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.uid))
every_document = pytest.mark.parametrize("name", [path.stem for path in COMMITTED])


def test_the_committed_dashboards_are_those_that_would_be_built() -> None:
    built = dashboards.build(rules.Thresholds.load())

    assert rules.differences(DOCKER / "grafana/dashboards", built) == []
    assert {path.name for path in COMMITTED} == set(built)


def test_a_users_threshold_colours_the_panels(tmp_path: Path) -> None:
    changes = tmp_path / "mine.toml"
    changes.write_text("[QueueBackup]\nmessages = 4321\n")

    built = dashboards.build(rules.Thresholds.load(changes))

    assert '"value": 4321' in built["tasks.json"]


@pytest.mark.parametrize("name", STRATEGY)
def test_every_panel_of_the_strategy_is_there(name: str) -> None:
    titles = {panel["title"] for panel in panels(document(name))}

    assert [title for parts in STRATEGY[name].values() for title in parts if title not in titles] == []


@every_document
def test_every_panel_says_what_to_aim_for_and_in_which_unit(name: str) -> None:
    for panel in panels(document(name)):
        assert "Aim for" in panel["description"], panel["title"]
        assert panel["type"] in KINDS_WITHOUT_UNIT or panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@every_document
def test_thresholds_are_green_yellow_red(name: str) -> None:
    for panel in panels(document(name)):
        colours = [step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
        assert colours in (["green"], ["green", "yellow", "red"], ["red", "yellow", "green"]), panel["title"]


@every_board
def test_every_query_asks_for_what_there_is(board: Board) -> None:
    lint = taught()
    expressions = [query for row in board.rows.values() for panel in row for query in panel.queries.values()]

    filled = [promql.fill(query, is_hourly=is_hourly) for query in expressions for is_hourly in (False, True)]

    found = [(query, lint.findings(query)) for query in filled]

    assert [(query, findings) for query, findings in found if findings] == []


@every_board
def test_links_lead_to_runbooks_and_dashboards_that_exist(board: Board) -> None:
    alerts = {alert.name for alert in ALERTS}
    uids = {board.uid for board in BOARDS}
    for row in board.rows.values():
        for panel in row:
            assert set(panel.aim.runbooks) <= alerts, panel.title
            if panel.aim.more:
                assert re.match(r"/d/([\w-]+)\?", panel.aim.more)[1] in uids, panel.title  # type: ignore[index]


@every_document
def test_all_dashboards_have_the_same_variables_times_and_annotations(name: str) -> None:
    board = document(name)

    assert [variable["name"] for variable in board["templating"]["list"]] == [
        "datasource",
        "job",
        "agent",
        "level",
        "lasting",
    ]
    assert [annotation["name"] for annotation in board["annotations"]["list"]] == ["Deploys", "Alerts"]
    assert (board["time"], board["refresh"]) == ({"from": "now-1h", "to": "now"}, "30s")
    assert board["timepicker"] == document("system")["timepicker"]


@pytest.mark.parametrize(
    ("range_seconds", "recorded_hours", "level", "lasting"),
    [
        (3600, 400, "agent", "5m"),
        (172_800, 400, "agent", "5m"),
        (172_801, 400, "agent_hour", "1h"),
        (1_296_000, 400, "agent_hour", "1h"),
        (1_296_000, 0, "agent", "5m"),
    ],
)
def test_days_are_shown_by_the_hour_once_there_are_hours(
    range_seconds: int, recorded_hours: int, level: str, lasting: str, tmp_path: Path
) -> None:
    hours = f"1x{recorded_hours}" if recorded_hours else "_"
    test = {
        "interval": "1h",
        "input_series": [{"series": 'agent_hour:tasks_processed:rate5m{agent="a"}', "values": hours}],
        "promql_expr_test": [
            {
                "expr": asked_by(variable, range_seconds),
                "eval_time": "400h",
                "exp_samples": [{"labels": f'{{{variable}="{value}"}}', "value": 1}],
            }
            for variable, value in (("level", level), ("lasting", lasting))
        ],
    }
    (tmp_path / "test.yml").write_text(json.dumps({"rule_files": [], "tests": [test]}))

    run = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yml"], capture_output=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def asked_by(variable: str, range_seconds: int) -> str:
    """Fill in a variable's query as Grafana does; its value is how many agents there are, which no test needs."""
    (query,) = (row["query"] for row in document("agents")["templating"]["list"] if row["name"] == variable)
    inner = str(query).removeprefix("query_result(").removesuffix(")")
    return inner.replace("$__range_s", str(range_seconds)).replace("$__range", f"{range_seconds}s")


@every_document
def test_titles_are_told_apart_and_panels_dont_overlap(name: str) -> None:
    board = document(name)
    places = [panel["gridPos"] for panel in board["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(cells) == len(set(cells))
    assert all(at["x"] + at["w"] <= 24 for at in places)


@every_document
def test_a_series_that_nothing_judges_has_no_colour_of_a_verdict(name: str) -> None:
    for panel in panels(document(name)):
        defaults = panel["fieldConfig"]["defaults"]
        judged = len(defaults["thresholds"]["steps"]) > 1
        if panel["type"] == "bargauge":
            assert defaults["color"]["mode"] == ("thresholds" if judged else "fixed"), panel["title"]
        colours = {legend: colour for legend, colour in fixed_colours(panel) if legend not in JUDGED}
        assert not VERDICTS & set(colours.values()), panel["title"]


def test_what_is_known_by_name_has_one_colour_on_all_dashboards() -> None:
    of_categories = {
        (legend, colour)
        for path in COMMITTED
        for panel in panels(document(path.stem))
        for legend, colour in fixed_colours(panel)
        if legend in {"timeout", "validation", "dependency", "resource", "internal"}
    }

    assert len(of_categories) == 5


def test_lines_that_may_lie_on_each_other_are_told_apart_by_dashes() -> None:
    panel = next(panel for panel in panels(document("tasks")) if panel["title"] == "Submitted and finished per minute")
    dashed = [override for override in panel["fieldConfig"]["overrides"] if override["properties"][0]["id"] != "color"]

    assert [override["matcher"]["options"] for override in dashed] == ["finished"]
    assert dashed[0]["properties"][0] == {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}}
