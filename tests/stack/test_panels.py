import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from busmon.dashboards import BOARDS
from busmon.dashboards.parts import promql
from busmon.dashboards.parts.panels import Panel
from busmon.dashboards.parts.promql import PROCESSED
from busmon.settings import Settings
from busmon.simulator.roles import ROLES
from tests.celery.traffic import celery_traffic
from tests.patience import PATIENCE_SECONDS, wait_until
from tests.stack.native import NativeStack

RANGE_SECONDS = 30

# Series that only something going wrong, or an end, brings about; that their panels' other queries have data is tested.
WITHOUT_DATA = {
    ("Starts, stops and restarts", "stopped"): "no agent of the simulation stops in the time of the test",
    ("Worker restarts and reconnects", "worker {{worker}}: {{cause}}"): "no connection is lost",
    ("Alerts firing", ""): "no alert fires while all is well",
}


def queries() -> Iterator[tuple[Panel, str, str]]:
    for board in BOARDS:
        for row in board.rows.values():
            for panel in row:
                for legend, query in panel.queries.items():
                    yield panel, legend, query


class Prometheus:
    def __init__(self, address: str) -> None:
        self._address = address

    def series(self, panel: Panel, query: str) -> int:
        """How many series have at least one number: a quantile of nothing is NaN."""
        filled = promql.fill(query, is_hourly=False)
        filled = filled.replace("$__rate_interval", "10s").replace("$__range", f"{RANGE_SECONDS}s")
        filled = filled.replace("$job", ".+").replace("$agent", ".*")
        now = time.time()
        if panel.instant:
            return sum(math.isfinite(float(row["value"][1])) for row in self._ask("query", query=filled, time=str(now)))
        rows = self._ask("query_range", query=filled, start=str(now - RANGE_SECONDS), end=str(now), step="5")
        return sum(any(math.isfinite(float(value)) for _, value in row["values"]) for row in rows)

    def tasks_processed(self, agents: str, at: float) -> float:
        """A second, as the panels ask for it where these agents are chosen."""
        query = promql.choose(*PROCESSED).replace("$job", ".+").replace("$agent", agents)
        return sum(float(row["value"][1]) for row in self._ask("query", query=query, time=str(at)))

    def agents_heard(self) -> set[str]:
        return {row["metric"]["agent"] for row in self._ask("query", query="agent:last_envelope:age_seconds")}

    def labels(self, query: str, kept: set[str]) -> list[dict[str, str]]:
        """These labels of each series that an instant query finds, sorted."""
        rows = [row["metric"] for row in self._ask("query", query=query)]
        found = [{label: text for label, text in row.items() if label in kept} for row in rows]
        return sorted(found, key=lambda labels: sorted(labels.items()))

    def active_agents(self) -> float:
        """None are active before the rule's first evaluation."""
        return sum(float(row["value"][1]) for row in self._ask("query", query="sum(type:active_agents:sum)"))

    def _ask(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - of this machine
            found: list[dict[str, Any]] = json.loads(answer.read())["data"]["result"]
            return found


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeStack]:
    directory = tmp_path_factory.mktemp("stack")
    agents = ("--agents", "6", "--rate", "40")
    with (
        NativeStack(directory, Settings(), lambda _: None, agents, hasten="1s") as running,
        celery_traffic(directory / "shop", running.amqp_url),
    ):
        yield running


def test_every_panels_query_returns_data_of_a_real_fleet(stack: NativeStack) -> None:
    prometheus = Prometheus(stack.prometheus)
    asked = [row for row in queries() if (row[0].title, row[1]) not in WITHOUT_DATA]
    deadline = time.monotonic() + PATIENCE_SECONDS

    while empty := [(panel, legend, query) for panel, legend, query in asked if not prometheus.series(panel, query)]:
        assert time.monotonic() < deadline, [(panel.title, legend, query) for panel, legend, query in empty]
        asked = empty
        time.sleep(0.5)


def test_a_simulation_shows_its_agents_and_nobody_else(stack: NativeStack) -> None:
    prometheus = Prometheus(stack.prometheus)
    agents = {"celery", *(role.name for role in ROLES)}

    # The rules are evaluated one after the other, and agents begin one after the other.
    wait_until(lambda: len(prometheus.agents_heard()) >= len(agents) <= prometheus.active_agents(), "all agents")
    assert prometheus.agents_heard() == agents
    assert prometheus.active_agents() == len(agents)


def test_what_the_chosen_agents_do_adds_up_to_what_all_do(stack: NativeStack) -> None:
    prometheus = Prometheus(stack.prometheus)
    first, *others = (role.name for role in ROLES)
    deadline = time.monotonic() + PATIENCE_SECONDS

    parts = [0.0]
    while not min(parts):
        assert time.monotonic() < deadline
        time.sleep(0.5)
        recorded = time.time() - 3  # by all rules of the group, not only by the first
        parts = [prometheus.tasks_processed(agents, recorded) for agents in (first, f"({'|'.join(others)})")]

    assert sum(parts) == pytest.approx(prometheus.tasks_processed(".*", recorded))


# As the dashboards and alerts of celery-exporter's mixin ask, of a fleet without the labels `cluster` and `namespace`.
OF_MIXIN = 'cluster="", namespace="", job=~"busmon", queue_name!~"None"'
_MIXIN_ENDS = " + ".join(
    f'sum(increase(celery_task_{kind}_total{{{OF_MIXIN}, name!~"None"}}[1m])) by (job, namespace, queue_name, name)'
    for kind in ("failed", "succeeded")
)
MIXIN: dict[str, list[dict[str, str]]] = {
    f"count(celery_worker_up{{{OF_MIXIN}}} == 1)": [{}],
    f"sum(celery_worker_tasks_active{{{OF_MIXIN}}})": [{}],
    'celery_worker_up{job=~"busmon"} == 1': [
        {"hostname": "shop-1", "job": "busmon"},
        {"hostname": "shop-2", "job": "busmon"},
    ],
    f"count(group by (queue_name) (celery_queue_length{{{OF_MIXIN}}})) == 2": [{}],
    f"sum(celery_queue_length{{{OF_MIXIN}}}) by (job, namespace, queue_name)": [
        {"job": "busmon", "queue_name": "mails"},
        {"job": "busmon", "queue_name": "orders"},
    ],
    **{
        f"sum(round(increase(celery_task_{kind}_total{{{OF_MIXIN}}}[1m]))) by (name, queue_name)": [
            {"name": "shop.mail", "queue_name": "mails"},
            {"name": "shop.pay", "queue_name": "orders"},
            {"name": "shop.ship", "queue_name": "orders"},
        ]
        for kind in ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")
    },
    f"(sum(increase(celery_task_failed_total{{{OF_MIXIN}}}[1m])) by (job, namespace, queue_name, name)) / "
    f"({_MIXIN_ENDS}) * 100 < 50": [
        {"job": "busmon", "name": "shop.mail", "queue_name": "mails"},
        {"job": "busmon", "name": "shop.pay", "queue_name": "orders"},
        {"job": "busmon", "name": "shop.ship", "queue_name": "orders"},
    ],
    f"sum(rate(celery_task_runtime_sum{{{OF_MIXIN}}}[1m])) by (queue_name)"
    f" / sum(rate(celery_task_runtime_count{{{OF_MIXIN}}}[1m])) by (queue_name) > 0": [
        {"queue_name": "mails"},
        {"queue_name": "orders"},
    ],
    **{
        f"histogram_quantile(0.95, sum(irate({histogram}_bucket{{{OF_MIXIN}}}[1m])) by (job, le)) >= 0": [
            {"job": "busmon"}
        ]
        for histogram in ("celery_task_runtime", "celery_task_queue_wait_time")
    },
    f"sum(celery_active_consumer_count{{{OF_MIXIN}}}) by (queue_name) > 0": [
        {"queue_name": "mails"},
        {"queue_name": "orders"},
    ],
    f"sum(celery_active_worker_count{{{OF_MIXIN}}}) by (queue_name) > 0": [
        {"queue_name": "mails"},
        {"queue_name": "orders"},
    ],
}


def test_the_queries_of_celery_exporters_dashboards_and_alerts_find_the_same_labels(stack: NativeStack) -> None:
    prometheus = Prometheus(stack.prometheus)
    kept = {"name", "queue_name"} | {label for found in MIXIN.values() for each in found for label in each}
    deadline = time.monotonic() + PATIENCE_SECONDS
    for query, expected in MIXIN.items():
        while (found := prometheus.labels(query, kept)) != expected:
            assert time.monotonic() < deadline, (query, found)
            time.sleep(0.5)


def test_what_is_said_to_have_no_data_is_asked_for() -> None:
    assert set(WITHOUT_DATA) <= {(panel.title, legend) for panel, legend, _ in queries()}
