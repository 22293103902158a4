"""`/ready` of a real exporter process, over dependencies that answer, hang and aren't what they should be."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from busmon import status
from busmon.exporter.checks.check import Answer
from busmon.exporter.checks.resources import Resources
from busmon.exporter.checks.runner import Checks
from busmon.exporter.checks.watch import Schedule, Watch
from busmon.status import ShardStatus, SupervisorStatus, WorkerStatus

from .servers import PASSWORD, Postgres, Redis, free_port, silent_server

SECONDS = 120
CLIENTS = 20
REQUESTS = 400
QUICK = {
    "BUSMON_CHECK_INTERVAL_SECONDS": "0.1",
    # How busy the machine is that the tests run on is no part of any of them.
    **{f"BUSMON_{resource}_THRESHOLD": "1" for resource in ("MEMORY", "DISK", "CPU")},
}


class Exporter:
    """A running exporter over the status files of a fleet that consumes."""

    def __init__(self, port: int, registry_dir: Path) -> None:
        self.port = port
        self.registry_dir = registry_dir

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ready(self) -> dict[str, Any]:
        beat(self.registry_dir)
        document: dict[str, Any] = json.loads(self.get("/ready")[1])
        return document

    def until(self, promise: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + SECONDS
        while not promise(document := self.ready()):
            assert time.monotonic() < deadline, document
            time.sleep(0.02)
        return document

    def samples(self) -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(self.get("/metrics")[1].decode())
        return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def beat(registry_dir: Path) -> None:
    """The status files of one worker that consumes one shard, as of now."""
    now = time.time()
    registry_dir.mkdir(mode=0o700, exist_ok=True)
    status.write(registry_dir, SupervisorStatus(1, now - 60, 1, now))
    shard = ShardStatus(0, "telemetry.fold.0", "consuming", queue_depth=0, last_commit_at=now)
    status.write(registry_dir, WorkerStatus(0, 2, now - 60, now, [shard]))


@contextmanager
def exporter(directory: Path, **settings: str) -> Iterator[Exporter]:
    environment = {f"BUSMON_{name.upper()}": value for name, value in settings.items()}
    registry_dir, log = directory / "registry", directory / "log"
    beat(registry_dir)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "busmon", "exporter", "--listen", "127.0.0.1:0", "--registry-dir", registry_dir],
            env={**os.environ, **QUICK, **environment},
            stderr=stream,
        )
    try:
        yield Exporter(_port(process, log), registry_dir)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    finally:
        process.kill()
        process.wait()
    assert PASSWORD not in log.read_text()


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if '"server.started"' in line and line.endswith("}"):
                return int(json.loads(line)["address"].rpartition(":")[2])
        time.sleep(0.02)
    raise AssertionError(log.read_text())


def test_all_that_is_configured_is_told_in_the_strategys_words(
    tmp_path: Path, postgres: Postgres, redis: Redis
) -> None:
    with exporter(
        tmp_path,
        postgres_url=postgres.url(host="localhost", query=f"?sslmode=verify-full&sslrootcert={postgres.ca}"),
        postgres_migration_query="SELECT 'b2'",
        postgres_migration_head="b2",
        redis_url=redis.url(scheme="rediss", host="localhost", query=f"?ssl_ca_certs={redis.ca}"),
        redis_warm_key="nobody set this",
        dependencies=f"cache=tcp://127.0.0.1:{redis.port} gone=tcp://127.0.0.1:{free_port()}",
        optional_dependencies="gone",
    ) as served:
        document = served.until(lambda document: document["status"] == "ready")
        samples = served.samples()
    assert document["services"] == {
        "rabbitmq": "connected",
        "postgres": "connected",
        "redis": "connected",
        "cache": "connected",
        "gone": "disconnected",
    }
    assert document["checks"] == {"database_migration": "complete", "cache_warm": "false", "message_queue": "available"}
    assert document["degraded"] == [
        "cache_warm is false: there is no key 'nobody set this'",
        "gone is disconnected: Connection refused",
    ]
    assert samples["busmon_ready",] == 1
    assert samples["busmon_dependency_up", "postgres"] == 1
    assert samples["busmon_dependency_up", "gone"] == 0
    assert samples["busmon_dependency_breaker_state", "postgres", "closed"] == 1
    assert samples["busmon_readiness_check", "database_migration"] == 1
    assert samples["busmon_readiness_check", "cache_warm"] == 0
    assert 0 < samples["busmon_resource_usage_ratio", "disk"] <= 1


def test_a_password_can_be_read_from_a_file_and_a_wrong_one_is_never_shown(tmp_path: Path, postgres: Postgres) -> None:
    (tmp_path / "url").write_text(postgres.url(database=PASSWORD.split()[0]) + "\n")
    with exporter(tmp_path, postgres_url_file=str(tmp_path / "url")) as served:
        document = served.until(lambda document: "does not exist" in document["dependencies"]["postgres"]["cause"])
        assert served.get("/-/ready") == (200, b"busmon is Ready.\n")
    assert document["status"] == "not_ready"
    assert document["checks"]["database_migration"] == "pending"


def test_a_required_dependency_that_goes_away_makes_it_not_ready_until_it_is_back(tmp_path: Path) -> None:
    schedule = {"check_failures": "2", "check_retry_seconds": "0.3"}
    with Redis() as redis, exporter(tmp_path, redis_url=redis.url(), **schedule) as served:
        served.until(lambda document: document["status"] == "ready")
        redis.stop()
        gone = served.until(lambda document: document["dependencies"]["redis"]["breaker"] == "open")
        assert gone["status"] == "not_ready"
        assert gone["degraded"] == ["redis is disconnected: Connection refused"]
        assert served.samples()["busmon_dependency_up", "redis"] == 0
        assert served.get("/-/ready")[0] == 200
        redis.start()
        served.until(lambda document: document["status"] == "ready")
        assert served.samples()["busmon_dependency_breaker_state", "redis", "closed"] == 1


def test_readiness_is_answered_under_load_while_a_dependency_hangs_and_asks_it_nothing(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as hung,
        exporter(
            tmp_path, dependencies=f"hung=http://127.0.0.1:{hung.getsockname()[1]}", check_timeout_seconds="60"
        ) as served,
        ThreadPoolExecutor(CLIENTS) as clients,
        hung.accept()[0],
    ):
        answers = list(clients.map(lambda _: served.get("/ready"), range(REQUESTS)))
        hung.setblocking(False)  # noqa: FBT003 - as the library has it
        with pytest.raises(BlockingIOError):
            hung.accept()
    documents = [json.loads(body) for _, body in answers]
    # The one check that there was had not ended by then: whoever had waited for it would wait still.
    assert {code for code, _ in answers} == {503}
    assert {document["dependencies"]["hung"]["cause"] for document in documents} == {"it has not been checked yet"}


def test_a_status_file_of_nonsense_costs_no_answer(tmp_path: Path) -> None:
    with exporter(tmp_path) as served:
        path = served.registry_dir / "status" / "worker-0.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"beat_at": "yesterday", "started_at": []}))
        code, body = served.get("/ready")
        assert (code, json.loads(body)["status"]) == (503, "not_ready")
        assert [served.get(path)[0] for path in ("/health", "/-/ready", "/metrics")] == [503, 503, 200]


def test_a_check_that_cannot_be_made_is_one_line_and_a_users_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "busmon", "exporter", "--listen", "127.0.0.1:0"],
        env={**os.environ, "BUSMON_REGISTRY_DIR": str(tmp_path / "r"), "BUSMON_OPTIONAL_DEPENDENCIES": "redis"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "busmon: optional_dependencies from environment BUSMON_OPTIONAL_DEPENDENCIES: 'redis' is not a dependency; "
        "no dependency is configured"
    )


def test_the_checks_end_with_their_block_though_one_hangs(tmp_path: Path) -> None:
    class Hanging:
        conditions: tuple[str, ...] = ()

        async def look(self) -> dict[str, Answer]:
            await asyncio.Event().wait()
            return {}

    watch = Watch("hung", Hanging(), Schedule(60.0, 60.0, 3, 60.0), required=True)
    resources = Resources(tmp_path, {"memory": 0.9, "disk": 0.9, "cpu": 0.9})
    with Checks([watch], resources, 60.0) as checks:
        assert [finding.name for finding in checks.findings().dependencies] == ["hung"]
    assert not checks._thread.is_alive()


@pytest.mark.parametrize("scheme", ["postgresql", "redis"])
def test_no_driver_waits_for_a_silent_server_longer_than_its_deadline(tmp_path: Path, scheme: str) -> None:
    name = scheme.removesuffix("ql")
    with silent_server() as port:
        url = {f"{name}_url": f"{scheme}://user:{PASSWORD.split()[0]}@127.0.0.1:{port}/0"}
        with exporter(tmp_path, check_timeout_seconds="0.2", check_failures="1", **url) as served:
            document = served.until(lambda document: document["dependencies"][name]["breaker"] == "open")
    assert document["degraded"] == [f"{name} is disconnected: no answer within 0.2 s"]
