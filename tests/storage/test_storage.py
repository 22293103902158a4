import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.patience import wait_until
from tests.storage.servers import (
    DAY_SECONDS,
    DOCKER,
    address,
    configured,
    old_block,
    prometheus,
    running,
    victoriametrics,
)

NOTHING = "global: {}\n"
EXPOSITION = (
    b"# TYPE tasks_processed_total counter\n"
    b'tasks_processed_total{agent="analyzer",status="success"} %d\n'
    b'tasks_processed_total{agent="analyzer",status="failure"} 1\n'
)


@pytest.fixture
def exporters() -> Iterator[list[str]]:
    """Four exporters' addresses; they count on with every scrape."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = EXPOSITION % (time.time() - 1.7e9)
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of scrapes."""

    with ExitStack() as stack:
        addresses = []
        for _ in range(4):
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Metrics))
            Thread(target=server.serve_forever, daemon=True).start()
            stack.callback(server.shutdown)
            addresses.append(f"127.0.0.1:{server.server_port}")
        yield addresses


def test_fifteen_days_are_hot_and_ninety_cold(tmp_path: Path) -> None:
    (tmp_path / "nothing.yml").write_text(NOTHING)
    hot, cold = tmp_path / "hot", tmp_path / "cold"
    recent = old_block(hot, 14)
    for directory in (hot, cold):
        at = old_block(directory, 80)
    retention = "--storage.tsdb.retention.time={}"

    with (
        prometheus(hot, tmp_path / "nothing.yml", retention.format("15d")) as short,
        prometheus(
            cold, tmp_path / "nothing.yml", retention.format("90d"), "--web.enable-remote-write-receiver"
        ) as long,
    ):
        wait_until(lambda: not short.ask("fleet:old:rate5m", at), "the hot store to drop a block of 80 days ago")
        assert short.ask("fleet:old:rate5m", recent)
        assert long.ask("fleet:old:rate5m", at)


def test_victoriametrics_keeps_ninety_days_and_no_more(tmp_path: Path) -> None:
    now = time.time()
    with victoriametrics(tmp_path / "vm", "-retentionPeriod=90d", "-dedup.minScrapeInterval=5s") as store:
        for days in (80, 100):
            sample = {
                "metric": {"__name__": "fleet:old:rate5m"},
                "values": [1],
                "timestamps": [int(now - days * DAY_SECONDS) * 1000],
            }
            request = urllib.request.Request(f"{store.url}/api/v1/import", json.dumps(sample).encode(), method="POST")  # noqa: S310 - of this machine
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - of this machine

        def at(days: int) -> list[object]:
            return [series["value"] for series in store.ask("fleet:old:rate5m", now - days * DAY_SECONDS + 1)]

        wait_until(lambda: at(80), "a sample of 80 days ago")
        assert not at(100)


def test_recorded_series_reach_the_cold_store_and_raw_ones_dont(tmp_path: Path, exporters: list[str]) -> None:
    with ExitStack() as stack:
        store = stack.enter_context(victoriametrics(tmp_path / "vm", "-retentionPeriod=90d"))
        configuration = configured(tmp_path, "cold.yml", {"busmon": exporters[0], "victoriametrics": store.address})
        stack.enter_context(prometheus(tmp_path / "hot", configuration))

        (series,) = wait_until(lambda: store.ask("agent:tasks_processed:rate1m"), "a recorded series in the cold store")
        assert (series["metric"]["agent"], series["metric"]["job"]) == ("analyzer", "busmon")
        assert "replica" not in series["metric"]
        assert wait_until(lambda: store.ask("up"), "up")
        assert not store.ask("tasks_processed_total")


def test_a_global_prometheus_takes_recorded_series_with_their_own_labels(tmp_path: Path, exporters: list[str]) -> None:
    with ExitStack() as stack:
        below = configured(tmp_path / "below", "prometheus.yml", {"busmon": exporters[0]})
        one = stack.enter_context(prometheus(tmp_path / "one", below))
        above = configured(tmp_path / "above", "global.yml", {"prometheus": one.address})
        whole = stack.enter_context(prometheus(tmp_path / "whole", above))

        (series,) = wait_until(lambda: whole.ask("agent:tasks_processed:rate1m"), "a federated series")
        assert series["metric"]["job"] == "busmon"
        assert not whole.ask("tasks_processed_total")
        assert not whole.ask("fleet:task_duration_seconds:p95_1m")


def test_two_replicas_alert_as_one(tmp_path: Path) -> None:
    where = address()
    with ExitStack() as stack:
        command = [
            "prometheus-alertmanager",
            f"--config.file={DOCKER}/alertmanager/alertmanager.yml",
            "--storage.path=data",
        ]
        flags = [f"--web.listen-address={where}", "--cluster.listen-address="]
        alertmanager = stack.enter_context(running(tmp_path / "am", [*command, *flags], where, "/-/ready"))
        replicas = []
        for name in ("prometheus.yml", "prometheus-b.yml"):
            configuration = configured(tmp_path / name, name, {"alertmanager": where})
            replicas.append(stack.enter_context(prometheus(tmp_path / name / "run", configuration)))
        for replica in replicas:
            wait_until(replica.has_notified, "a replica's first notification")

        def watchdogs() -> list[dict[str, Any]]:
            alerts: list[dict[str, Any]] = alertmanager.get("/api/v2/alerts")
            return [alert for alert in alerts if alert["labels"]["alertname"] == "Watchdog"]

        (watchdog,) = wait_until(watchdogs, "the Watchdog")
        assert "replica" not in watchdog["labels"]


def test_each_exporter_is_scraped_by_one_shard(tmp_path: Path, exporters: list[str]) -> None:
    scraped: list[str] = []
    with ExitStack() as stack:
        for number in (0, 1):
            configuration = configured(tmp_path / str(number), f"shard-{number}.yml", {"busmon": " ".join(exporters)})
            shard = stack.enter_context(prometheus(tmp_path / str(number) / "run", configuration))
            active, dropped = wait_until(shard.targets, "targets")
            assert len(active) + dropped == len(exporters)
            scraped += active

    assert sorted(scraped) == sorted(exporters)
