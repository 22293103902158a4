import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.applications import Starlette

from busmon import status
from busmon.exporter.overview.overview import Overview
from busmon.exporter.server.app import App
from busmon.settings import Settings
from busmon.status import SupervisorStatus, WorkerStatus
from tests.unit.exporter.asking import ask
from tests.unit.exporter.fleet import NOW, replicated, shard, supervisor, worker


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    return App(Settings(registry_dir=tmp_path), "127.0.0.1:9797").starlette()


def told(registry_dir: Path, process: SupervisorStatus | WorkerStatus) -> None:
    """Write an invented status as if it had been invented for the present."""
    elapsed = time.time() - NOW
    status.write(
        registry_dir, replace(process, started_at=process.started_at + elapsed, beat_at=process.beat_at + elapsed)
    )


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    told(tmp_path, supervisor(workers=1))
    told(tmp_path, worker(0, shard(0)))
    return tmp_path


@pytest.mark.usefixtures("fleet")
def test_a_healthy_fleet_is_told_on_every_path(app: Starlette) -> None:
    assert json.loads(ask(app, "/health").body)["status"] == "alive"
    assert json.loads(ask(app, "/ready").body)["status"] == "ready"
    assert ask(app, "/-/healthy").body == b"busmon is Healthy.\n"
    assert ask(app, "/-/ready").body == b"busmon is Ready.\n"
    assert {ask(app, path).status for path in ("/health", "/ready", "/-/healthy", "/-/ready")} == {200}


def test_a_fleet_that_stopped_beating_is_dead_with_503(app: Starlette, fleet: Path) -> None:
    told(fleet, supervisor(beat_age=60))
    told(fleet, worker(0, shard(0), beat_age=60))
    assert json.loads(ask(app, "/health").body)["status"] == "dead"
    assert json.loads(ask(app, "/ready").body)["status"] == "not_ready"
    assert {ask(app, path).status for path in ("/health", "/ready", "/-/healthy", "/-/ready")} == {503}


def test_health_is_never_cached(app: Starlette) -> None:
    assert ask(app, "/health").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ],
)
def test_metrics_say_what_they_are(app: Starlette, accept: str, content_type: str) -> None:
    answer = ask(app, "/metrics", headers={"Accept": accept, "Accept-Encoding": "gzip"})
    assert answer.headers["content-type"] == content_type
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept, Accept-Encoding"


@pytest.mark.usefixtures("fleet")
def test_the_overview_is_what_top_reads(app: Starlette) -> None:
    model = Overview.from_json(json.loads(ask(app, "/overview").body))
    assert model.scrape == "http://127.0.0.1:9797/metrics"
    assert [row.shard for row in model.shards] == [0]
    assert model.rates.envelopes == 0  # and not None: the first answer waits for the collection that a rate needs


def test_the_page_links_what_there_is(app: Starlette) -> None:
    page = ask(app, "/").body.decode()
    for path in ("/metrics", "/health", "/ready", "/overview"):
        assert f'href="{path}"' in page


@pytest.mark.parametrize("path", ["/metrics", "/health", "/", "/-/ready"])
def test_a_method_that_asks_nothing_is_refused(app: Starlette, path: str) -> None:
    answer = ask(app, path, "POST")
    assert answer.status == 405
    assert sorted(answer.headers["allow"].split(", ")) == ["GET", "HEAD"]


@pytest.mark.parametrize("path", ["/metrics/", "/nothing", "/.env", "//"])
def test_a_path_that_isnt_there_is_not_found(app: Starlette, path: str) -> None:
    assert ask(app, path).status == 404


def test_no_answer_holds_a_stack_trace(app: Starlette, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise RuntimeError("a secret")

    monkeypatch.setattr("busmon.registry.scrape.exposition.Exposition.text", fail)
    answer = ask(app, "/metrics")
    assert answer.status == 500
    assert answer.body == b"busmon can't answer this; the exporter's log says why\n"


def test_a_scrape_of_names_has_only_those(app: Starlette) -> None:
    page = ask(app, "/metrics", query="name[]=busmon_build_info&name[]=busmon_workers").body.decode()
    assert {line.partition("{")[0].partition(" ")[0] for line in page.splitlines() if line[0] != "#"} == {
        "busmon_build_info",
        "busmon_workers",
    }
    assert ask(app, "/metrics", query="name[]=nothing").body == b""


def test_a_replica_that_is_being_read_hides_all_metrics(tmp_path: Path) -> None:
    app = App(Settings(registry_dir=tmp_path, replication="stream"), "127.0.0.1:9797").starlette()
    told(tmp_path, supervisor(workers=1))
    told(tmp_path, worker(0, replicated(0, "reading", "")))
    answer = ask(app, "/metrics")
    assert (answer.status, answer.body) == (503, b"shard 0 is still being read from its log; try again\n")
    assert json.loads(ask(app, "/ready").body)["status"] == "not_ready"
    told(tmp_path, worker(0, replicated(0)))
    answer = ask(app, "/metrics")
    assert answer.status == 200
    assert b'busmon_shard_owner{host="host-a",shard="0"} 1.0' in answer.body
