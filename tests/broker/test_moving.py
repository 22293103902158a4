"""`busmon registry into-log` and `from-log`: totals that stay, whichever way a fleet keeps them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from busmon.bus.topology.declare import declare
from busmon.bus.topology.topology import load
from busmon.registry.admission.families import Families
from busmon.registry.ledger.source_record import Verdict
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.shard import Shard
from tests.unit.registry.registries import CATALOGUE, NOW, envelope

from .topologies import Client, topology_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("no_settings")
Capture = pytest.CaptureFixture[str]

SAMPLES = [
    {"name": "made_total", "type": "counter", "labels": {"x": "1"}, "value": 3},
    {"name": "queue_size", "labels": {"queue": "tasks"}, "value": 7},
    {"name": "task_duration_seconds", "labels": {"agent": "a"}, "values": [0.1, 0.7]},
    {"name": "waits_seconds", "type": "summary", "labels": {}, "values": [0.5]},
]


@pytest.fixture
def given(vhost: Any, tmp_path: Path) -> list[str]:
    """The arguments of both commands, with new logs of two shards."""
    path = topology_file(tmp_path, ("shards = 4", "shards = 2"))
    declare(load(path, "telemetry", "stream"), vhost.amqp_url, None, {})
    return ["--amqp-url", vhost.amqp_url, "--topology", str(path), "--host-name", "mover"]


def count(directory: Path, shard: int, sequence: int) -> bool:
    """Count an envelope in the files of one host; return whether it was new to them."""
    with closing(Shard.open(directory, shard, Families(directory, CATALOGUE, 100))) as opened:
        is_new = opened.ledger.admit("s-1", f"s-1:{sequence}", NOW) is Verdict.NEW
        if is_new:
            opened.fold.envelope(envelope(*SAMPLES), NOW)
            opened.commit(NOW)
        return is_new


def files_of_one_host(directory: Path) -> Path:
    directory.mkdir(mode=0o700)
    assert all(count(directory, shard, sequence) for shard in (0, 1) for sequence in (1, 2))
    return directory


def scrape(directory: Path) -> str:
    return Exposition(directory).text().decode()


def run(*arguments: str) -> int:
    """Run a command in a process of its own, whose log it sets up, and repeat its output."""
    ran = subprocess.run(
        [sys.executable, "-P", "-m", "busmon", "registry", *arguments], capture_output=True, text=True, check=False
    )
    sys.stdout.write(ran.stdout)
    sys.stderr.write(ran.stderr)
    return ran.returncode


def into(given: list[str], directory: Path) -> int:
    return run("into-log", *given, "--registry-dir", str(directory))


def back(given: list[str], directory: Path) -> int:
    return run("from-log", *given, "--output", str(directory))


def test_totals_and_ids_survive_the_way_into_the_logs_and_back(
    given: list[str], tmp_path: Path, capsys: Capture
) -> None:
    before = files_of_one_host(tmp_path / "before")
    assert 'made_total{x="1"} 12.0' in scrape(before)
    assert into(given, before) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(", ")[0] for line in said] == [
        f"shard {shard}: its state is in 'telemetry.log.{shard}'" for shard in (0, 1)
    ]
    assert back(given, tmp_path / "after") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"shard {shard}: 'telemetry.log.{shard}' is in the files up to record 1" for shard in (0, 1)
    ]
    assert scrape(tmp_path / "after") == scrape(before)
    assert not [*(tmp_path / "after").glob("*.replica")]
    for directory in (before, tmp_path / "after"):
        assert [count(directory, shard, sequence) for shard in (0, 1) for sequence in (2, 3)] == [False, True] * 2
    assert scrape(tmp_path / "after") == scrape(before)


def test_new_logs_give_an_empty_directory(given: list[str], tmp_path: Path) -> None:
    assert back(given, tmp_path / "after") == 0
    assert "made_total" not in scrape(tmp_path / "after")
    assert count(tmp_path / "after", 0, 1)


def test_a_reader_that_left_stops_no_move_into_the_logs(given: list[str], tmp_path: Path) -> None:
    before = files_of_one_host(tmp_path / "before")
    reading, writing = os.pipe()
    os.close(reading)
    move = [sys.executable, "-u", "-m", "busmon", "registry", "into-log", *given, "--registry-dir", str(before)]
    done = subprocess.run(move, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
    assert back(given, tmp_path / "after") == 0
    assert scrape(tmp_path / "after") == scrape(before)


def test_logs_that_have_counted_are_refused_before_any_is_written_to(
    given: list[str], tmp_path: Path, capsys: Capture
) -> None:
    before = files_of_one_host(tmp_path / "before")
    assert into(given, before) == 0
    capsys.readouterr()
    assert into(given, before) == 1
    assert capsys.readouterr().err == (
        "busmon: log 'telemetry.log.0' has counted already, by host 'mover': delete the logs and run `busmon topology "
        "declare` to begin new ones\n"
    )


def test_a_directory_that_a_fleet_has_is_refused(given: list[str], tmp_path: Path, capsys: Capture) -> None:
    before = files_of_one_host(tmp_path / "before")
    with closing(Shard.open(before, 1, Families(before, CATALOGUE, 100))):
        assert into(given, before) != 0
    assert capsys.readouterr().err.count("\n") == 1
    assert back(given, tmp_path / "after") == 0
    assert "made_total" not in scrape(tmp_path / "after")


def test_files_are_never_written_over(given: list[str], tmp_path: Path, capsys: Capture) -> None:
    before = files_of_one_host(tmp_path / "before")
    assert back(given, before) != 0
    assert capsys.readouterr().err.startswith(f"busmon: {before}: expected an empty directory; ")


@pytest.mark.parametrize("run", [into, back])
def test_a_missing_log_is_one_line(
    vhost: Any, given: list[str], tmp_path: Path, capsys: Capture, run: Callable[[list[str], Path], int]
) -> None:
    with Client(vhost.amqp_url) as client:
        client.channel.queue_delete("telemetry.log.0")
    directory = files_of_one_host(tmp_path / "before") if run is into else tmp_path / "after"
    assert run(given, directory) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("busmon: log 'telemetry.log.0' is missing: run `busmon topology declare` as an operator")
