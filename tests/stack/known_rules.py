"""The project's rules as the tests of rules and of dashboards take them, and a linter that has learnt them."""

from collections.abc import Iterator

from busmon import rules
from tests.stack.known_metrics import known
from tests.stack.promql_lint import Lint

GROUPS = [group for groups in rules.read(rules.Thresholds.load()).values() for group in groups]
RECORDED = [(rule, group) for group in GROUPS for rule in group.rules if isinstance(rule, rules.Recording)]
ALERTS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, rules.Alert)]

LOOK_BACK_SECONDS = 300
"""Prometheus forgets a sample that is older; Prometheus 3 one that is as old."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(duration: str) -> float:
    """Convert a duration with one unit."""
    return float(duration[:-1]) * _SECONDS[duration[-1]]


def recording_findings(lint: Lint) -> Iterator[str]:
    """Have the linter learn the recordings; list what is wrong with them."""
    for rule, group in RECORDED:
        for finding in lint.record(rule.name, rule.expr, seconds(group.interval)):
            yield f"{rule.name}: {finding}"


def taught() -> Lint:
    """Make a linter that knows every recording and every alert, those of other alerts last."""
    lint = Lint(known())
    list(recording_findings(lint))
    for alert in sorted(ALERTS, key=lambda alert: "ALERTS" in alert.expr):
        lint.alert(alert.name, alert.expr, alert.labels)
    return lint
