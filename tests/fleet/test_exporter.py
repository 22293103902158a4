"""The exporter as a process of its own, over a registry directory that no fleet runs in."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from busmon.exporter.overview.viewers import MAX_VIEWERS
from busmon.status import SupervisorStatus, WorkerStatus
from tests.unit.registry.registries import Registry

from .exporting import BUSMON, SECONDS, exporter, get, with_series


def busmon(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*BUSMON, *arguments], capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.fixture
def registry_dir(tmp_path: Path) -> Path:
    return with_series(tmp_path / "registry")


@pytest.fixture(scope="module")
def lone_exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A running exporter of an empty directory, and its port."""
    directory = tmp_path_factory.mktemp("lone") / "registry"
    directory.mkdir(mode=0o700)
    with exporter(directory) as (_, port):
        yield directory, port


@pytest.fixture
def lone(lone_exporter: tuple[Path, int]) -> Iterator[tuple[Path, int]]:
    """The same, for whoever fills it and leaves it empty."""
    directory, _ = lone_exporter
    (directory / "status").mkdir(mode=0o700)
    yield lone_exporter
    for path in (*directory.glob("status/*"), *directory.glob("*.db")):
        path.unlink()
    (directory / "status").rmdir()


def test_a_scrape_serves_the_files_and_the_exporters_own_families_in_both_formats(registry_dir: Path) -> None:
    with exporter(registry_dir) as (_, port):
        _, text = get(port, "/metrics")
        _, openmetrics = get(port, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
    for families in (
        list(text_families(text.decode())),
        list(openmetrics_families(openmetrics.decode())),  # type: ignore[no-untyped-call]
    ):
        samples = {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }
        assert samples["tasks_processed_total", "analyzer"] == 42
        assert samples["busmon_series", "tasks_processed"] == 1
        assert ("process_resident_memory_bytes",) in samples


@pytest.mark.parametrize("content", [b"", b"\0", b"not a value file at all, " * 50, b"\xff" * 4096])
def test_a_broken_file_is_named_and_breaks_no_scrape(registry_dir: Path, content: bytes) -> None:
    (registry_dir / "counter_7.db").write_bytes(content)
    with exporter(registry_dir) as (_, port):
        status, text = get(port, "/metrics")
    assert status == 200
    assert b'tasks_processed_total{agent="analyzer"} 42' in text
    assert b'busmon_scrape_files_skipped{file="counter_7.db"' in text


@pytest.mark.parametrize(
    "held",
    [
        {"obstacles": ["half a pair: \ud83d"]},
        {"reconnects": {"\ud83d": 1}},
        {"shards": [{"shard": 0, "queue": "\ud83d"}]},
        {"pid": 10**30},
        {"forwarded": 10**400},
        {"beat_at": float("nan")},
        {"worker": "0"},
    ],
    ids=" ".join,
)
def test_whatever_a_status_file_holds_every_page_is_served_and_says_what_it_left_out(
    lone: tuple[Path, int], held: dict[str, object]
) -> None:
    directory, port = lone
    path = directory / "status" / "worker-0.json"
    path.write_text(json.dumps(asdict(WorkerStatus(0)) | held))
    assert get(port, "/health")[0] == 200
    for page in ("/metrics", "/ready", "/overview"):
        assert b"status/worker-0.json" in get(port, page)[1]
    with socket.create_connection(("127.0.0.1", port), SECONDS) as viewer:
        viewer.sendall(b"GET /overview/stream HTTP/1.1\r\nHost: x\r\n\r\n")
        stream = viewer.makefile("rb")
        assert any(b"status/worker-0.json" in line for line in stream)


def test_a_process_that_began_before_all_time_is_told_with_a_number_that_json_has(lone: tuple[Path, int]) -> None:
    directory, port = lone
    (directory / "status" / "supervisor.json").write_text(json.dumps(asdict(SupervisorStatus(1, -1e308, 1))))
    assert json.loads(get(port, "/overview")[1])["uptime_seconds"] > 0


def test_who_holds_all_places_of_the_overviews_stream_keeps_nobody_else_from_it(lone: tuple[Path, int]) -> None:
    _, port = lone
    with ExitStack() as held:

        def watching(address: str) -> BinaryIO:
            """A stream's lines; the answer begins with the status."""
            viewer = held.enter_context(socket.create_connection(("127.0.0.1", port), SECONDS, (address, 0)))
            viewer.sendall(b"GET /overview/stream HTTP/1.1\r\nHost: x\r\n\r\n")
            return held.enter_context(viewer.makefile("rb"))

        greedy = [watching("127.0.0.1") for _ in range(MAX_VIEWERS)]
        assert [stream.readline() for stream in greedy] == [b"HTTP/1.1 200 OK\r\n"] * MAX_VIEWERS
        other = watching("127.0.0.2")
        assert other.readline() == b"HTTP/1.1 200 OK\r\n"
        assert any(line.startswith(b"data: ") for line in other)
        assert greedy[0].read()
        assert any(line.startswith(b"data: ") for line in greedy[1])
        assert watching("127.0.0.1").readline() == b"HTTP/1.1 503 Service Unavailable\r\n"


def test_a_file_whose_name_is_no_text_breaks_no_scrape(lone: tuple[Path, int]) -> None:
    directory, port = lone
    Path(os.fsdecode(bytes(directory) + b"/counter_\xff.db")).touch()
    assert b'busmon_scrape_files_skipped{file="counter_?.db"' in get(port, "/metrics")[1]


def test_a_head_request_has_no_body(registry_dir: Path) -> None:
    with exporter(registry_dir) as (_, port):
        assert get(port, "/metrics", "HEAD") == (200, b"")


def test_an_exporter_of_a_directory_without_a_shard_is_alive_and_says_what_it_lacks(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing yet"
    with exporter(nothing) as (process, port):
        assert get(port, "/health")[0] == 200
        status, body = get(port, "/ready")
        assert status == 503
        said = f"no worker holds a shard, and there is none in {nothing}: is it the fleet's registry directory?"
        assert said in json.loads(body)["degraded"]
        assert get(port, "/metrics")[0] == 200
        process.terminate()
        assert process.stderr
        lines = [json.loads(line) for line in process.stderr]
    (told,) = [line for line in lines if line["event"] == "server.no_shard"]
    assert (told["level"], told["registry_dir"]) == ("warning", str(nothing))
    assert told["next"].endswith(", or start a fleet")


def test_an_exporter_of_a_directory_with_a_shard_says_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir(mode=0o700)
    with Registry(tmp_path / "registry") as registry:
        registry.commit()
    with exporter(tmp_path / "registry") as (process, port):
        degraded = json.loads(get(port, "/ready")[1])["degraded"]
        assert "no worker holds a shard" in degraded
        process.terminate()
        assert process.stderr
        assert "server.no_shard" not in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order_though_a_connection_is_open(registry_dir: Path, number: signal.Signals) -> None:
    with exporter(registry_dir) as (process, port), socket.create_connection(("127.0.0.1", port), SECONDS) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(4096).startswith(b"HTTP/1.1 200")
        process.send_signal(number)
        assert process.wait(SECONDS) == 0


def test_what_is_no_http_costs_nobody_else_an_answer(registry_dir: Path) -> None:
    with exporter(registry_dir) as (_, port), socket.create_connection(("127.0.0.1", port), SECONDS) as stranger:
        stranger.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 garbage\r\n\r\n")
        stranger.recv(4096)
        assert get(port, "/metrics")[0] == 200


def test_an_address_that_is_taken_is_one_line(registry_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = busmon("exporter", "--listen", listen, "--registry-dir", str(registry_dir))
    assert done.returncode == 2
    assert done.stderr == (
        f"busmon: can't listen on {listen}: Address already in use; choose another with --listen HOST:PORT\n"
    )


def test_top_prints_a_frame_without_a_terminal(registry_dir: Path) -> None:
    with exporter(registry_dir) as (_, port):
        done = busmon("top", "--once", "--listen", f"127.0.0.1:{port}")
    assert done.returncode == 0
    assert f"http://127.0.0.1:{port}/metrics" in done.stdout
    assert "not ready: no worker holds a shard" in done.stdout


def test_top_names_the_address_where_nobody_answers() -> None:
    done = busmon("top", "--once", "--listen", "127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith(
        "busmon: no exporter answers at 127.0.0.1:1: Connection refused; start one with `busmon up`"
    )
    assert done.stderr.count("\n") == 1
