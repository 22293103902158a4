"""A real Prometheus that scrapes a real fleet, with each scrape protocol that the Prometheus has."""

import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.fleet.publishing import envelope, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until
from tests.storage.servers import Server, prometheus

PROTOCOLS: dict[str, dict[str, object]] = {
    "openmetrics-1.0.0": {"scrape_protocols": ["OpenMetricsText1.0.0"]},
    "openmetrics-0.0.1": {"scrape_protocols": ["OpenMetricsText0.0.1"]},
    "text-1.0.0": {"scrape_protocols": ["PrometheusText1.0.0"]},
    "text-0.0.4": {"scrape_protocols": ["PrometheusText0.0.4"]},
    "protobuf": {"scrape_protocols": ["PrometheusProto"]},
    "fallback": {"fallback_scrape_protocol": "PrometheusText0.0.4"},
    "classic-names": {"metric_name_validation_scheme": "legacy", "metric_name_escaping_scheme": "underscores"},
    "escaped-by-underscores": {"metric_name_escaping_scheme": "underscores"},
    "escaped-by-values": {"metric_name_escaping_scheme": "values"},
}
"""Settings of a scrape that Prometheus 3 has and Prometheus 2.42 doesn't."""

ADDED = {"__name__", "job", "instance"}
OWN = "busmon_|process_"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SAMPLES: list[dict[str, Any]] = [
    {
        "name": "tasks_processed_total",
        "labels": {"agent": "analyzer", "status": "success"},
        "value": 1,
        "trace_id": TRACE,
    },
    {"name": "task_duration_seconds", "labels": {"agent": "analyzer"}, "values": [0.2, 1.0, 70], "trace_id": TRACE},
    {"name": "queue_size", "labels": {"queue": 'größe "of"\\\n任务'}, "value": 42},
    {"name": "uptime_ratio", "type": "gauge", "value": -0.0025},
    {"name": "reply_bytes", "type": "summary", "value": 512},
]
ENVELOPES = 30


class Series(NamedTuple):
    """A series with its value as text, since no NaN equals another."""

    name: str
    labels: frozenset[tuple[str, str]]
    value: str


def major() -> int:
    """Return the major version of the Prometheus under test."""
    said = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"version (\d+)\.", said.stdout + said.stderr)
    assert version
    return int(version[1])


def configuration(path: Path, target: str, jobs: dict[str, dict[str, object]]) -> Path:
    """Write a configuration in which each job scrapes the same target every second."""
    static: dict[str, object] = {"scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    path.write_text(yaml.safe_dump({"scrape_configs": [static | jobs[name] | {"job_name": name} for name in jobs]}))
    return path


def exposed(fleet: RealFleet) -> set[Series]:
    """Read all series of the publishers off the exporter."""
    return {
        Series(sample.name, frozenset(sample.labels.items()), repr(sample.value))
        for family in text_string_to_metric_families(fleet.get("/metrics")[1].decode())
        for sample in family.samples
        if not re.match(OWN, sample.name)
    }


def stored(server: Server, job: str) -> set[Series]:
    """Ask a Prometheus for all series of the publishers that it has of a job."""
    return {
        Series(
            each["metric"]["__name__"],
            frozenset((name, value) for name, value in each["metric"].items() if name not in ADDED),
            repr(float(each["value"][1])),
        )
        for each in server.ask(f'{{job="{job}",__name__!~"({OWN}|scrape_).*|up"}}')
    }


def test_a_scrape_brings_each_series_with_its_value_by_every_protocol(vhost: Any, tmp_path: Path) -> None:
    jobs = {"default": {}, **(PROTOCOLS if major() >= 3 else {})}
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        publish(vhost.amqp_url, (envelope("analyzer-1", number + 1, SAMPLES) for number in range(ENVELOPES)))
        fleet.wait_for_total("tasks_processed_total", ENVELOPES)
        expected = exposed(fleet)
        path = configuration(tmp_path / "prometheus.yml", fleet.address, jobs)
        with prometheus(tmp_path / "prometheus", path, "--enable-feature=exemplar-storage") as server:
            wait_until(lambda: len(server.ask("up == 1")) == len(jobs), "all targets to be up")
            targets = server.get("/api/v1/targets")["data"]["activeTargets"]
            found = {job: stored(server, job) for job in jobs}
            times = {"start": "2020-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
            exemplars = server.get("/api/v1/query_exemplars", query='{job="default"}', **times)["data"]

    assert [target["lastError"] for target in targets] == [""] * len(jobs)
    assert {
        Series("tasks_processed_total", frozenset({("agent", "analyzer"), ("status", "success")}), "30.0"),
        Series("task_duration_seconds_bucket", frozenset({("agent", "analyzer"), ("le", "1.0")}), "60.0"),
        Series("queue_size", frozenset({("queue", 'größe "of"\\\n任务')}), "42.0"),
        Series("reply_bytes_sum", frozenset(), "15360.0"),
    } <= expected
    assert {job: series ^ expected for job, series in found.items()} == {job: set() for job in jobs}
    assert {
        (each["seriesLabels"]["__name__"], each["seriesLabels"].get("le")): exemplar["labels"]
        for each in exemplars
        for exemplar in each["exemplars"]
    } == {
        ("tasks_processed_total", None): {"trace_id": TRACE},
        ("task_duration_seconds_bucket", "+Inf"): {"trace_id": TRACE},
    }
