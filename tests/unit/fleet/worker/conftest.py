"""Hosts of a replicated fleet: one with all of a worker that a shard needs, another, and a replica without a host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from busmon.registry.admission.families import Families
from busmon.registry.shard.replicated_shard import ReplicatedShard
from tests.unit.fleet.replicated_host import Host, OtherHost
from tests.unit.registry.registries import CATALOGUE


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "a")
    yield host
    host.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[OtherHost]:
    other = OtherHost(tmp_path / "b")
    yield other
    other.close()


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[ReplicatedShard]:
    (tmp_path / "c").mkdir()
    shard = ReplicatedShard.open(tmp_path / "c", 0, Families(tmp_path / "c", CATALOGUE, 100))
    yield shard
    shard.close()
