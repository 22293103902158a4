import json
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import yaml

from busmon import rules
from busmon.cli import main
from tests.stack import known_rules
from tests.stack.known_metrics import known
from tests.stack.known_rules import GROUPS, LOOK_BACK_SECONDS, seconds, taught
from tests.stack.reach import reach
from tests.stack.rule_cases import RULES, AlertCase, alert_cases, left_open, promtool, recorded_cases
from tests.stack.twofold import expected, twofold

ALERTS = {rule.name: rule for rule in known_rules.ALERTS}
RECORDED = {rule.name for rule, _ in known_rules.RECORDED}
RUNBOOKS = Path("docs/runbooks")
HEADINGS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
ALWAYS = {"Watchdog"}

CASES = alert_cases()
EVERY_CASE = [case for cases in CASES.values() for case in cases]


# Prometheus 2 takes the sample at the left end of a range, Prometheus 3 leaves it out: no case may depend on it.
every_range = pytest.mark.parametrize("groups", [GROUPS, left_open(GROUPS)], ids=["closed", "left-open"])


@every_range
@pytest.mark.parametrize("file", sorted(CASES))
def test_alerts_fire_when_they_must_and_stay_quiet_when_they_must_not(
    file: str, groups: list[rules.Group], tmp_path: Path
) -> None:
    assert promtool(tmp_path, groups, CASES[file]) == ""


@every_range
def test_recorded_series_hold_over_restarts_and_several_exporters(groups: list[rules.Group], tmp_path: Path) -> None:
    assert promtool(tmp_path, groups, recorded_cases()) == ""


LINT = taught()


def doubled() -> dict[str, AlertCase]:
    """Make the case of each alert with two of everything, and count how many alerts fire in it."""
    series, made = known(), {}
    for name, alert in ALERTS.items():
        case = twofold([case for case in EVERY_CASE if case.alert == name], GROUPS, series)
        made[name] = replace(case, count=expected(case, LINT.shapes(alert.expr)))
    return made


DOUBLED = doubled()


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_every_alert_tells_of_two_of_everything(name: str, tmp_path: Path) -> None:
    assert promtool(tmp_path, GROUPS, [DOUBLED[name]]) == ""


# Two jobs, four registry directories, eight exporters, and two of each label: HighMemoryUsage tells of four processes,
# four agents and eight hosts, ConfigurationChanged of four services and four fleets.
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ConfigurationChanged", 8),
        ("ConfigurationReloadFailed", 8),
        ("DependencyBreakerOpen", 4),
        ("DependencyDown", 4),
        ("HighErrorRate", 2),
        ("HighMemoryUsage", 16),
        ("LabelOverflow", 16),
        ("QueueBackup", 4),
        ("ServiceDown", 8),
        ("UnresolvedCritical", 20),
        ("UnresolvedWarning", 20),
        ("Watchdog", 1),
        ("WorkerCrashLoops", 8),
    ],
)
def test_two_of_everything_are_so_many_alerts(name: str, count: int) -> None:
    assert DOUBLED[name].count == count


@pytest.mark.parametrize(
    ("name", "overwriting"),
    [
        ("ConfigurationChanged", {"service": "configuration"}),
        ("ConfigurationReloadFailed", {"service": "configuration"}),
        ("DependencyDown", {"job": "any"}),
        ("QueueBackup", {"queue": "any"}),
        ("UnresolvedCritical", {"unresolved": "{{ $labels.tier }}"}),
    ],
)
def test_prometheus_refuses_a_rule_that_overwrites_what_tells_two_apart(
    name: str, overwriting: dict[str, str], tmp_path: Path
) -> None:
    def overwritten(rule: rules.Alert | rules.Recording) -> rules.Alert | rules.Recording:
        if isinstance(rule, rules.Alert) and rule.name == name:
            return replace(rule, labels={**rule.labels, **overwriting})
        return rule

    groups = [replace(group, rules=tuple(map(overwritten, group.rules))) for group in GROUPS]

    assert "same labelset after applying alert labels" in promtool(tmp_path, groups, [DOUBLED[name]])


def test_no_case_is_evaluated_so_seldom_that_prometheus_forgets_what_was_recorded_before() -> None:
    assert {case.promise for case in EVERY_CASE if seconds(case.step) >= LOOK_BACK_SECONDS} == set()


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert {case.alert for case in EVERY_CASE if case.fires} == set(ALERTS)


def test_every_alert_has_a_case_in_which_it_stays_quiet() -> None:
    quiet = {case.alert for case in EVERY_CASE if not case.fires}

    assert quiet == set(ALERTS) - ALWAYS


def test_every_recorded_series_is_part_of_a_case() -> None:
    named = {name for case in recorded_cases() for name in case.expected}

    assert RECORDED - reach(GROUPS, named | set(ALERTS)) == set()


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
    assert alert.labels.get("service") or all("service" in dict(row) for row in LINT.shapes(alert.expr))
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
