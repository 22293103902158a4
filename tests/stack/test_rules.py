import json
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from busmon import rules
from busmon.cli import main
from busmon.rules.reach import reached
from tests.stack.rule_cases import RULES, alert_cases, promtool, recorded_cases

GROUPS = [group for groups in rules.read(rules.Thresholds.load()).values() for group in groups]
ALERTS = {rule.name: rule for group in GROUPS for rule in group.rules if isinstance(rule, rules.Alert)}
RECORDED = {rule.name for group in GROUPS for rule in group.rules if isinstance(rule, rules.Recording)}
RUNBOOKS = Path("docs/runbooks")
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
ALWAYS = {"Watchdog"}

CASES = alert_cases()
EVERY_CASE = [case for cases in CASES.values() for case in cases]


@pytest.mark.parametrize("file", sorted(CASES))
def test_alerts_fire_when_they_must_and_stay_quiet_when_they_must_not(file: str, tmp_path: Path) -> None:
    assert promtool(tmp_path, GROUPS, CASES[file]) == ""


def test_recorded_series_hold_over_restarts_and_several_exporters(tmp_path: Path) -> None:
    assert promtool(tmp_path, GROUPS, recorded_cases()) == ""


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert {case.alert for case in EVERY_CASE if case.fires} == set(ALERTS)


def test_every_alert_has_a_case_in_which_it_stays_quiet() -> None:
    quiet = {case.alert for case in EVERY_CASE if not case.fires}

    assert quiet == set(ALERTS) - ALWAYS


def test_every_recorded_series_is_part_of_a_case() -> None:
    named = {name for case in recorded_cases() for name in case.expected}

    assert RECORDED - reached(GROUPS, named | set(ALERTS)) == set()


def test_the_committed_rules_are_what_would_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "build", "--check"]) == 0, capsys.readouterr().out


def test_prometheus_accepts_its_configuration() -> None:
    command = ["promtool", "check", "config", "docker/prometheus/prometheus.yml"]
    run = subprocess.run(command, capture_output=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr


def test_what_is_written_is_what_is_read() -> None:
    written = [
        (group["name"], [rule.get("alert") or rule["record"] for rule in group["rules"]])
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]

    assert written == [(group.name, [rule.name for rule in group.rules]) for group in GROUPS]


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_every_alert_says_whom_it_concerns_and_what_to_read(name: str) -> None:
    alert = ALERTS[name]

    assert alert.labels["tier"] in ("P1", "P2", "P3", "none")
    assert alert.labels["service"]
    assert set(alert.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert alert.annotations["runbook_url"].endswith(f"/{name}.md")


def test_every_link_leads_to_a_dashboard_and_a_variable_that_it_has() -> None:
    boards = {}
    for path in Path("docker/grafana/dashboards").glob("*.json"):
        board = json.loads(path.read_text())
        boards[board["uid"]] = {f"var-{variable['name']}" for variable in board["templating"]["list"]}

    for name, alert in ALERTS.items():
        link = urlsplit(alert.annotations["dashboard_url"])
        assert {key for key, _ in parse_qsl(link.query)} <= boards[link.path.rpartition("/")[2]], name


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_every_alert_has_a_runbook(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()

    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert all(part.strip() for part in re.split(r"^## .+$", text, flags=re.MULTILINE))


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(ALERTS)
