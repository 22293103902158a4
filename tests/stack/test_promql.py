import re
from pathlib import Path

import pytest

from busmon import rules
from busmon.catalogue import Catalogue, naming
from tests.stack.known_metrics import known
from tests.stack.known_rules import ALERTS, GROUPS, LOOK_BACK_SECONDS, RECORDED, recording_findings, seconds, taught
from tests.stack.promql_lint import Lint
from tests.stack.promql_shapes import dimensions, labels_of, shape

RUNBOOKS = Path("docs/runbooks")


@pytest.fixture(scope="module")
def lint() -> Lint:
    return taught()


def test_every_recorded_expression_asks_for_what_there_is() -> None:
    assert list(recording_findings(Lint(known()))) == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert.name))
def test_every_alert_asks_for_what_there_is(lint: Lint, alert: rules.Alert) -> None:
    texts = " ".join([*alert.labels.values(), *alert.annotations.values()])
    used = re.findall(r"\$labels\.(\w+)", texts)
    found = lint.alert_findings(alert.expr, has_for="for" in alert.durations, used_labels=used, set_labels=alert.labels)

    assert found == []


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: str(group.name))
def test_every_group_is_evaluated_twice_before_prometheus_forgets_what_it_recorded(group: rules.Group) -> None:
    assert 0 < seconds(group.interval) < LOOK_BACK_SECONDS / 2


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
        ("sum(agent_hour:tasks_processed:rate5m)", "an hour"),
        ('rate({__name__=~"queue_size|up"}[1m])', "without a name"),
        ("up / on (job) up", "several series of a side match, which differ in instance, registry"),
        ("up / on (job) group_left () up", "several series of a side match"),
        ("queue_size * on (job) group_left (instance) max by (job, instance) (up)", "several series of a side match"),
        (
            "max by (job, queue) (queue_size) * on (job) group_right (queue) max by (job, queue) (queue_size)",
            "takes queue",
        ),
        ('label_replace(queue_size, "queue", "all", "job", "(.*)")', "overwrites queue"),
        ('label_replace(queue_size, "queue", "$1", "job", "(.*)")', "overwrites queue"),
        (
            'sum by (state) (busmon_shard_state{state="consuming"}) + sum by (state) (busmon_shard_state{state="no"})',
            "never match",
        ),
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
        "sum(last_over_time(agent_hour:tasks_processed:rate5m[1h]))",
        "queue_size * on (job, instance, registry) group_left () up",
        'label_replace(queue_size, "queue", "$1", "queue", "(.+)-old")',
        'label_replace(up, "place", "$1", "instance", "(.+):.+")',
        'sum by (shard, state) (busmon_shard_state{state="no"}) / ignoring (state) sum by (shard) (busmon_shard_state)',
    ],
)
def test_what_is_right_is_let_through(lint: Lint, expression: str) -> None:
    assert lint.findings(expression) == []


@pytest.mark.parametrize(
    ("expression", "varying", "fixed"),
    [
        ("sum by (job, queue) (queue_size)", {"job", "queue"}, {}),
        ("sum without (instance, registry) (queue_size)", {"job", "queue"}, {}),
        ("sum(queue_size)", set(), {}),
        ('sum by (shard, state) (busmon_shard_state{state="consuming"})', {"shard"}, {"state": "consuming"}),
        ("max by (job) (up) * on (job) group_right () queue_size", {"job", "instance", "registry", "queue"}, {}),
        ("queue_size * on (job) group_left (registry) max by (job, registry) (up)", {"job", "instance", "queue"}, {}),
        ("sum by (job, queue) (queue_size) / on (job, queue) sum by (job, queue) (queue_size)", {"job", "queue"}, {}),
        ("histogram_quantile(0.9, sum by (le, job) (rate(task_duration_seconds_bucket[1m])))", {"job"}, {}),
        ('label_replace(sum by (queue) (queue_size), "service", "queues", "", "")', {"queue"}, {"service": "queues"}),
        ('label_replace(sum by (queue) (queue_size), "name", "$1", "queue", "(.+)")', {"queue", "name"}, {}),
        ('label_join(sum by (queue) (queue_size), "name", "-", "queue")', {"queue", "name"}, {}),
        ('absent(up{job="node"})', set(), {"job": "node"}),
        ("vector(1)", set(), {}),
        ('count_values by (job) ("level", queue_size)', {"job", "level"}, {}),
    ],
)
def test_the_labels_of_a_result_are_known(
    lint: Lint, expression: str, varying: set[str], fixed: dict[str, str]
) -> None:
    if "group_left (registry)" in expression:
        varying |= {"registry"}

    assert lint.shapes(expression) == frozenset({shape(varying, **fixed)})


def test_alternatives_keep_their_own_labels(lint: Lint) -> None:
    shapes = lint.shapes('sum by (queue) (queue_size) or sum by (shard, state) (busmon_shard_state{state="consuming"})')

    assert shapes == {shape({"queue"}), shape({"shard"}, state="consuming")}
    assert dimensions(shapes) == {"queue", "shard", "state"}
    assert labels_of(shapes) == {"queue", "shard", "state"}


# The label that each of them sets was the only one that told two series apart, or was about to.
@pytest.mark.parametrize(
    ("expression", "label"),
    [
        ("sum without (result) (service_result:config_reloads:increase5m) > 0", "service"),
        ("service:service_up:min == 0 or dependency:busmon_dependency_up:min == 0", "dependency"),
        ("service:service_up:min == 0 or dependency:busmon_dependency_up:min == 0", "service"),
        ('time() - ALERTS_FOR_STATE{tier="P1"} > 1 and ignoring (alertstate) ALERTS{tier="P1"}', "unresolved"),
        ('time() - ALERTS_FOR_STATE{tier="P1"} > 1 and ignoring (alertstate) ALERTS{tier="P1"}', "escalated_from"),
        (
            'breaker_state:circuit_breaker_state:sum{state="open"} > 0 or busmon_dependency_breaker_state > 0',
            "dependency",
        ),
        ("sum by (queue) (queue_size) > 1", "queue"),
        ("sum without (instance) (queue_size) > 1", "queue"),
        ("queue_size * on (job, instance, registry) group_left () up > 1", "queue"),
        (
            'sum by (state) (busmon_shard_state{state="consuming"}) > 0 or sum by (shard) (busmon_shard_state) > 0',
            "state",
        ),
        ('max by (alertname) (ALERTS{tier="P1"}) > 0', "alertname"),
    ],
)
def test_a_label_that_an_alert_overwrites_is_found(lint: Lint, expression: str, label: str) -> None:
    found = lint.alert_findings(expression, has_for=True, used_labels=[], set_labels=["tier", label])

    assert f"{label}: set by the rule, and tells series of the result apart" in found


@pytest.mark.parametrize(
    ("expression", "label"),
    [
        ("sum by (queue) (queue_size) > 1", "service"),
        ("sum by (job) (queue_size) > 1", "queue"),
        ('sum by (shard, state) (busmon_shard_state{state="consuming"}) > 0', "state"),
        (
            'max without (alertname, tier) (label_replace(ALERTS{tier="P2"}, "of", "$1", "alertname", "(.+)")) > 0',
            "tier",
        ),
    ],
)
def test_a_label_that_tells_nothing_apart_may_be_set(lint: Lint, expression: str, label: str) -> None:
    assert lint.alert_findings(expression, has_for=True, used_labels=[], set_labels=[label]) == []


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


def test_no_publisher_alone_brings_in_a_metric_that_the_rules_take_from_another_program() -> None:
    expressions = " ".join([*(rule.expr for rule, _ in RECORDED), *(alert.expr for alert in ALERTS)])
    selected = known().keys() & set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", expressions))
    others = {name for name in selected - Catalogue.load().occupied.keys() if not naming.is_reserved(name)}

    assert others == naming.RULED_METRICS
