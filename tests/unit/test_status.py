from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest

from busmon import status
from busmon.status import ShardStatus, SupervisorStatus, WorkerStatus

FOREIGN = "it isn't as a process of this version writes it"


def a_worker(number: int) -> WorkerStatus:
    shard = ShardStatus(number, f"telemetry.fold.{number}", "consuming", queue_depth=3, last_commit_at=5.5)
    return WorkerStatus(number, 4000 + number, 1.0, beat_at=2.0, shards=[shard], reconnects={"connection_lost": 1})


def a_supervisor() -> SupervisorStatus:
    return SupervisorStatus(3999, 1.0, 2, 2.0, {"0": 1}, {"success": 1, "failure": 0})


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    for written in (a_worker(10), a_supervisor(), a_worker(2)):
        status.write(tmp_path, written)
    assert status.read(tmp_path) == status.FleetStatus(a_supervisor(), (a_worker(2), a_worker(10)), shardless=tmp_path)


def test_a_directory_without_a_fleet_has_no_status(tmp_path: Path) -> None:
    assert status.read(tmp_path / "absent") == status.FleetStatus(None, (), shardless=tmp_path / "absent")


def test_a_status_is_replaced_whole(tmp_path: Path) -> None:
    status.write(tmp_path, a_worker(0))
    before = (tmp_path / "status" / "worker-0.json").open()
    status.write(tmp_path, WorkerStatus(0, 1, 1.0))
    with before:
        assert json.load(before)["pid"] == 4000
    assert status.read(tmp_path).workers == (WorkerStatus(0, 1, 1.0),)


def test_one_unreadable_file_costs_the_others_nothing_and_is_named(tmp_path: Path) -> None:
    status.write(tmp_path, a_worker(0))
    texts = {
        "supervisor": "",
        "worker-1": '{"worker": 1, "pi',
        "worker-2": "[]",
        "worker-3": "null",
        "worker-4": '{"worker": 4, "shards": [], "from": "another version"}',
        "worker-5": '{"worker": 5, "shards": null}',
        "worker-6": '{"worker": 6, "shards": ["text"]}',
        "worker-7": "[" * 100_000,
        "worker-8": " " * status.MAX_BYTES + json.dumps(asdict(a_worker(8))),
        "another": json.dumps(asdict(a_worker(0))),
        "a\ufffdb": "",
    }
    for name, text in texts.items():
        (tmp_path / "status" / f"{name}.json").write_text(text)
    (tmp_path / "status" / "worker-9.json").write_bytes(b"\xff")
    found = status.read(tmp_path)
    assert found.workers == (a_worker(0),)
    too_large = {"status/worker-8.json": "it can't be read: it has more than 1048576 bytes"}
    assert found.skipped == {f"status/{name}.json": FOREIGN for name in [*texts, "worker-9"]} | too_large


def test_what_is_no_file_is_named_and_never_waited_for(tmp_path: Path) -> None:
    status.write(tmp_path, a_worker(0))
    (tmp_path / "status" / "worker-1.json").mkdir()
    os.mkfifo(tmp_path / "status" / "worker-2.json")
    Path(os.fsdecode(bytes(tmp_path / "status") + b"/\xff.json")).symlink_to("worker-0.json")
    found = status.read(tmp_path)
    assert found.workers == (a_worker(0),)
    assert found.skipped == {
        "status/worker-1.json": "it can't be read: Is a directory, in a file's place; take it away",
        "status/worker-2.json": "it can't be read: Is a pipe, in a file's place; take it away",
        "status/?.json": "it can't be read: Is a symbolic link, in a file's place; take it away",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {"beat_at": "yesterday"},
        {"beat_at": None},
        {"beat_at": True},
        {"beat_at": float("nan")},
        {"beat_at": 10**400},
        {"started_at": [1.0]},
        {"worker": "0"},
        {"pid": 1.5},
        {"reconnects": [["connection_lost", 1]]},
        {"reconnects": {"connection_lost": "once"}},
        {"shards": [{"shard": "0", "queue": "q"}]},
        {"shards": [{"shard": 0, "queue": "q", "last_commit_at": "long ago"}]},
        {"shards": [{"shard": 0, "queue": "q", "state": None}]},
        {"shards": [{"shard": 0, "queue": "q", "cause": "half a pair: \ud83d"}]},
        {"reconnects": {"\ud83d": 1}},
        {"obstacles": ["\ud83d"]},
        {"forwarded": 2**53},
    ],
    ids=str,
)
def test_a_value_of_another_type_leaves_out_its_file_alone(tmp_path: Path, fields: dict[str, object]) -> None:
    for number in (0, 1):
        status.write(tmp_path, a_worker(number))
    path = tmp_path / "status" / "worker-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    found = status.read(tmp_path)
    assert found.workers == (a_worker(0),)
    assert found.skipped == {"status/worker-1.json": FOREIGN}


def test_what_killed_workers_left_is_cleared_whatever_stands_in_it(tmp_path: Path) -> None:
    status.write(tmp_path, a_worker(0))
    status.write(tmp_path, a_supervisor())
    (tmp_path / "status" / "worker-1.json").write_text("of another version")
    status.clear_workers(tmp_path)
    status.clear_workers(tmp_path / "absent")
    assert status.read(tmp_path) == status.FleetStatus(a_supervisor(), (), shardless=tmp_path)


def test_a_removed_status_is_gone_and_removing_it_again_is_no_error(tmp_path: Path) -> None:
    status.write(tmp_path, a_worker(0))
    status.remove(tmp_path, a_worker(0))
    status.remove(tmp_path, a_worker(0))
    status.remove(tmp_path / "absent", a_worker(0))
    assert status.read(tmp_path).workers == ()


def test_nobody_else_can_read_a_status(tmp_path: Path) -> None:
    status.write(tmp_path, a_worker(0))
    directory = tmp_path / "status"
    assert [path.stat().st_mode & 0o777 for path in (directory, directory / "worker-0.json")] == [0o700, 0o600]


def test_a_directory_in_which_a_worker_has_opened_a_shard_is_not_shardless(tmp_path: Path) -> None:
    (tmp_path / "shard3.journal").touch()
    assert status.read(tmp_path).shardless is None
