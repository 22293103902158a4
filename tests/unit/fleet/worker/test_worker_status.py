"""A worker says which shards it opens before it opens any, and replaces a replica's files only once it has said so."""

import errno
import os
from pathlib import Path

import pytest
from pika.adapters.select_connection import IOLoop

from busmon import status
from busmon.errors import RegistryError
from busmon.fleet.worker import worker
from busmon.settings import Settings


def test_a_replica_stays_while_the_disk_does_not_take_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shard0.replica", "shard0.journal"):
        (tmp_path / name).touch()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ioloop = IOLoop()
    monkeypatch.setattr(worker, "IOLoop", lambda: ioloop)
    monkeypatch.setattr(status, "write", refuse)
    with pytest.raises(RegistryError, match=r"the worker's status can't be written: .*No space left"):
        worker.Worker(Settings(registry_dir=tmp_path, replication="stream"), [0], 0)
    assert (tmp_path / "shard0.journal").exists()
    ioloop.close()


def test_every_shard_is_told_before_the_first_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[tuple[int, str]]] = []

    def note(_: Path, written: status.WorkerStatus) -> None:
        told.append([(shard.shard, shard.state) for shard in written.shards])

    ioloop = IOLoop()
    monkeypatch.setattr(worker, "IOLoop", lambda: ioloop)
    monkeypatch.setattr(status, "write", note)
    worker.Worker(Settings(registry_dir=tmp_path), [0, 2], 0).close()
    assert told[0] == [(0, "opening"), (2, "opening")]
    ioloop.close()
