import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from busmon import rules
from tests.stack.known_metrics import known
from tests.stack.promql_lint import Lint

GROUPS = [group for groups in rules.read(rules.Thresholds.load()).values() for group in groups]
RECORDED = [(rule, group) for group in GROUPS for rule in group.rules if isinstance(rule, rules.Recording)]
ALERTS = [rule for group in GROUPS for rule in group.rules if isinstance(rule, rules.Alert)]
RUNBOOKS = Path("docs/runbooks")
SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(duration: str) -> float:
    return float(duration[:-1]) * SECONDS[duration[-1]]


def recording_findings(lint: Lint) -> Iterator[str]:
    for rule, group in RECORDED:
        for finding in lint.record(rule.name, rule.expr, seconds(group.interval)):
            yield f"{rule.name}: {finding}"


@pytest.fixture(scope="module")
def lint() -> Lint:
    lint = Lint(known())
    list(recording_findings(lint))
    return lint


def test_every_recorded_expression_asks_for_what_there_is() -> None:
    assert list(recording_findings(Lint(known()))) == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_every_alert_asks_for_what_there_is(lint: Lint, alert: rules.Alert) -> None:
    texts = " ".join([*alert.labels.values(), *alert.annotations.values()])
    used = re.findall(r"\$labels\.(\w+)", texts)
    found = lint.alert_findings(alert.expr, has_for="for" in alert.durations, used_labels=used)

    assert found == []


def test_every_family_that_the_exporter_makes_is_known() -> None:
    sources = "".join(path.read_text() for path in Path("busmon/exporter").rglob("*.py"))
    made = re.findall(r'(?:MetricFamily|_gauge|_counter)\(\s*"(busmon_\w+)"', sources)
    stems = {re.sub(r"_(total|info|bucket|sum|count)$", "", name) for name in known()}

    assert made
    assert set(made) - stems == set()


def test_nothing_is_recorded_twice() -> None:
    assert len({rule.name for rule, _ in RECORDED}) == len(RECORDED)
    assert len({rule.expr for rule, _ in RECORDED}) == len(RECORDED)


@pytest.mark.parametrize(
    ("expression", "finding"),
    [
        ("nonsense_total", "no such series"),
        ('up{service="a"}', "no label service"),
        ("rate(queue_size[1m])", "no counter"),
        ("deriv(tasks_processed_total[5m])", "no gauge"),
        ("rate(tasks_processed_total[10s])", "shorter than 4 samples"),
        ("rate(sum(tasks_processed_total)[5m:])", "rate comes first"),
        ("avg(histogram_quantile(0.9, sum by (le) (rate(task_duration_seconds_bucket[1m]))))", "no quantile"),
        ("avg without (agent) (request_size_bytes)", "no quantile"),
        ("histogram_quantile(0.9, sum(rate(task_duration_seconds_bucket[1m])))", "`le` was aggregated away"),
        ('absent(up{job=~"a|b"})', "only equality"),
        ("absent(up)", "only equality"),
        ('up{job=~"busmon"}', "no regular expression"),
        ("sum by (colour) (queue_size)", "no label colour"),
        ("queue_size / task_queue_depth", "never match"),
        ("queue_size / on (agent) active_agents", "no label agent"),
        ("queue_size >", "doesn't parse"),
    ],
)
def test_a_trap_is_found(lint: Lint, expression: str, finding: str) -> None:
    assert any(finding in found for found in lint.findings(expression))


@pytest.mark.parametrize(
    "expression",
    [
        'sum by (agent) (max without (instance) (rate(tasks_processed_total{job=~"$job"}[$__rate_interval])))',
        "histogram_quantile(0.99, sum by (le) (agent:task_duration_seconds_bucket:rate5m))",
        "sum(increase(votes_cast_total[$__range]))",
        "time() - busmon_last_envelope_timestamp_seconds > 5",
    ],
)
def test_what_is_right_is_let_through(lint: Lint, expression: str) -> None:
    assert lint.findings(expression) == []


def test_an_alert_that_can_only_mislead_is_found(lint: Lint) -> None:
    def found(expression: str) -> str:
        return " ".join(lint.alert_findings(expression, has_for=True, used_labels=["colour"]))

    assert "no comparison" in found("queue_size")
    assert "waits twice" in found("max_over_time(queue_size[5m]) > 1")
    assert "come and go" in found("topk(3, queue_size) > 1")
    assert "$labels.colour" in found("queue_size > 1")


@pytest.mark.parametrize("path", sorted(RUNBOOKS.glob("*.md")), ids=lambda path: str(path.stem))
def test_every_query_of_a_runbook_asks_for_what_there_is(lint: Lint, path: Path) -> None:
    blocks = re.findall(r"```promql\n(.*?)\n\s*```", path.read_text(), re.DOTALL)
    queries = [line.strip() for block in blocks for line in block.splitlines()]

    assert [finding for query in queries for finding in lint.findings(query)] == []
