import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from busmon import rules

CONFIGURATION = Path("docker/alertmanager/alertmanager.yml")
CASES = Path("docker/alertmanager/tests.yml")
AMLINT = Path(sys.executable).with_name("amlint")
SECRETS = Path("/etc/alertmanager/secrets")
ALERTS = [
    rule
    for groups in rules.read(rules.Thresholds.load()).values()
    for group in groups
    for rule in group.rules
    if isinstance(rule, rules.Alert)
]
RECEIVERS = {
    "P1": {"on-call", "platform-on-call", "lead"},
    "P2": {"team", "platform-team"},
    "P3": {"notices"},
    "none": {"deadman"},
}


def cases() -> list[dict[str, Any]]:
    return [case for case in yaml.safe_load(CASES.read_text()) if "expect" in case]


def run(*command: object) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alertmanager_accepts_its_configuration() -> None:
    run("amtool", "check-config", CONFIGURATION)


def test_no_route_is_shadowed_and_no_template_broken() -> None:
    run(AMLINT, "check", CONFIGURATION, "--rules", "docker/prometheus/rules/*.yml", "--strict")


def test_every_route_is_taken_and_symptoms_are_held_back() -> None:
    run(AMLINT, "test", CONFIGURATION, CASES, "--fail-under", "100")


@pytest.mark.parametrize("case", cases(), ids=lambda case: str(case["name"]))
def test_alertmanager_itself_routes_alike(case: dict[str, Any]) -> None:
    labels = [f"{name}={value}" for name, value in case["labels"].items()]
    expected = ",".join(case["expect"])

    run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={CONFIGURATION}",
        f"--verify.receivers={expected}",
        *labels,
    )


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_every_alert_reaches_its_tier(alert: rules.Alert) -> None:
    labels = [
        f"{name}={value}" for name, value in {"alertname": alert.name, **alert.labels}.items() if "{{" not in value
    ]

    told = run("amtool", "config", "routes", "test", f"--config.file={CONFIGURATION}", *labels).strip()

    assert told in RECEIVERS[alert.labels["tier"]]


def test_every_secret_is_a_file_of_its_own_and_is_described() -> None:
    described = Path("docker/alertmanager/secrets/README.md").read_text()
    named = {Path(value) for value in _values(yaml.safe_load(CONFIGURATION.read_text())) if str(SECRETS) in value}

    assert named
    assert all(path.parent == SECRETS and f"`{path.name}`" in described for path in named)


def _values(node: Any) -> list[str]:
    if isinstance(node, dict):
        return [value for child in node.values() for value in _values(child)]
    if isinstance(node, list):
        return [value for child in node for value in _values(child)]
    return [node] if isinstance(node, str) else []
