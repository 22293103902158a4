"""The behaviour of `busmon up` before and without a broker; with one, the other tests of this folder use it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from busmon import status
from busmon.bus.topology.topology import find_built_in
from tests.patience import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOBODY = "amqp://user:secret@127.0.0.1:1/"


class Up:
    """`busmon up` against a broker that isn't there."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.registry_dir = directory / "registry"
        self._log = directory / "log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
        given = {"AMQP_URL": NOBODY, "REGISTRY_DIR": str(self.registry_dir), "LISTEN": "127.0.0.1:0"} | environment
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "busmon", "up"],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=inherited | {f"BUSMON_{name}": value for name, value in given.items()},
            )

    def log(self) -> str:
        """All that it and its children wrote."""
        return self._log.read_text()

    def said(self, event: str, **keywords: object) -> list[dict[str, Any]]:
        """The lines of the log with this event, and these keywords."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}"))
        return [line for line in lines if {**line, **keywords, "event": event} == line]


@contextmanager
def running(directory: Path, **environment: str) -> Iterator[Up]:
    """A fleet that waits for its broker."""
    fleet = Up(directory, **environment)
    try:
        yield fleet
    finally:
        fleet.process.terminate()
        fleet.process.wait(30)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """One, set up like any other."""
    with running(tmp_path) as fleet:
        yield fleet


def refusal(directory: Path, **environment: str) -> str:
    """All that `busmon up` says when it is set up like that."""
    refused = Up(directory, **environment)
    try:
        assert refused.process.wait(30) == 2
    finally:
        refused.process.kill()
    return refused.log()


def test_an_unreachable_broker_is_waited_for_and_the_password_is_never_told(up: Up) -> None:
    wait_until(lambda: len(status.read(up.registry_dir).workers) == 2)
    wait_until(lambda: "server.started" in up.log())
    assert "up.topology_not_declared" in up.log()
    wait_until(lambda: {line["worker"] for line in up.said("consumer.attempt_failed", attempt=1)} == {0, 1})
    wait_until(
        lambda: all(worker.reconnects.get("unreachable", 0) > 2 for worker in status.read(up.registry_dir).workers)
    )
    causes = [line["cause"] for line in up.said("consumer.attempt_failed")]
    assert {*causes} == {"unreachable"}
    assert len(causes) < sum(worker.reconnects["unreachable"] for worker in status.read(up.registry_dir).workers)
    assert up.said("consumer.connection_lost") == []
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(30) == 0
    assert "secret" not in up.log()
    assert status.read(up.registry_dir) == status.FleetStatus(None, ())


def test_the_registry_is_its_users_alone(up: Up) -> None:
    wait_until(lambda: status.read(up.registry_dir).workers)
    beneath = [up.registry_dir, *up.registry_dir.rglob("*")]
    assert {path.stat().st_mode & 0o077 for path in beneath if path.exists()} == {0}


def test_a_wrong_catalogue_is_one_line_before_anything_is_started(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.toml"
    catalogue.write_text("[counter\n")
    said = refusal(tmp_path, CATALOGUE=str(catalogue))
    assert said.startswith(f"busmon: {catalogue}: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "registry").exists()


def test_a_registry_that_others_can_write_to_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry").chmod(0o777)
    said = refusal(tmp_path)
    assert said.startswith("busmon: registry_dir from environment BUSMON_REGISTRY_DIR: others can write to ")
    assert said.count("\n") == 1


@pytest.mark.parametrize("command", [("up", "--listen", "127.0.0.1:0"), ("worker", "--shards", "0")])
def test_a_directory_of_other_programs_gets_no_file(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "hosts").touch()
    given = ["--amqp-url", NOBODY, "--registry-dir", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "busmon", *command, *given], stderr=subprocess.PIPE, text=True, check=False
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"busmon: registry_dir from flag --registry-dir: {tmp_path} has other programs' files")
    assert ran.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"]


def test_an_address_that_is_taken_is_one_line_before_anything_is_started(up: Up, tmp_path: Path) -> None:
    wait_until(lambda: "server.started" in up.log())
    taken = up.log().split('"address": "')[1].split('"')[0]
    (tmp_path / "another").mkdir()
    said = refusal(tmp_path / "another", LISTEN=taken)
    assert said.startswith(f"busmon: can't listen on {taken}: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "another" / "registry").exists()


def test_an_exporter_that_cannot_be_started_again_keeps_no_worker_from_counting(tmp_path: Path) -> None:
    access = tmp_path / "web.yml"
    access.write_text(right := "rate_limit: {interval: 1ms, burst: 100}\n")
    with running(tmp_path, WEB_CONFIG_FILE=str(access)) as up:
        wait_until(lambda: "server.started" in up.log())
        access.write_text("basic_auth_users: nobody\n")
        (started,) = up.said("supervisor.child_started", child="exporter")
        os.kill(started["pid"], signal.SIGKILL)
        wait_until(lambda: len(up.said("supervisor.child_refused")) >= 2)
        assert f"busmon: {access}: " in up.log()
        assert wait_until(lambda: status.read(up.registry_dir).supervisor).refusing == ["exporter"]
        refused_at = time.time()
        wait_until(lambda: all(worker.beat_at > refused_at for worker in status.read(up.registry_dir).workers))
        access.write_text(right)
        wait_until(lambda: len(up.said("server.started")) == 2)
        assert len(up.said("worker.started")) == 2


def test_another_way_of_dealing_sources_to_shards_is_said_once(tmp_path: Path) -> None:
    other = tmp_path / "topology.toml"
    other.write_text(find_built_in().read_text().replace('hash-header = "source"', 'hash-header = "customer"'))
    for topology, said in ((find_built_in(), 0), (other, 1), (other, 0)):
        with running(tmp_path, TOPOLOGY=str(topology), WORKERS="1") as up:
            wait_until(lambda up=up: up.said("worker.started"))  # type: ignore[misc]
            assert len(up.said("worker.sources_dealt_otherwise", dealt_by={"hash-header": "customer"})) == said


def test_a_second_fleet_in_one_registry_is_refused_and_names_the_first(up: Up, tmp_path: Path) -> None:
    wait_until(lambda: status.read(up.registry_dir).supervisor)
    (tmp_path / "another").mkdir()
    said = refusal(tmp_path / "another", REGISTRY_DIR=str(up.registry_dir))
    expected = f"busmon: {up.registry_dir}: the supervisor with process id {up.process.pid} runs here; stop it first\n"
    assert said == expected


def test_a_worker_says_whether_it_uses_compiled_modules(tmp_path: Path) -> None:
    pure = tmp_path / "pure.toml"
    pure.write_text("pure_python = 1\n")
    for given, used in (({}, True), ({"PURE_PYTHON": "1"}, False), ({"CONFIG": str(pure)}, False)):
        with running(tmp_path, WORKERS="1", **given) as up:
            wait_until(lambda up=up: up.said("worker.started"))  # type: ignore[misc]
            assert [line["compiled"] for line in up.said("worker.started")] == [used]
