"""A replica that follows a log's records is the shard that its owner has, to the byte of every value file."""

import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from busmon.errors import RegistryError
from busmon.registry.admission.budgets import UNBOUNDED
from busmon.registry.admission.families import Families
from busmon.registry.operator import removal
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.replica import require_kind
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.registry.shard.shard import Shard
from busmon.replication.counting import Place, Position
from tests.unit.registry.registries import CATALOGUE, NOW, envelope


def position(number: int) -> Position:
    """Return the position after the record of this number."""
    return Position(Place("log", 1, "owner", "host", number, "", 0.0, number), 10 * number, 7, is_whole=True)


class Host:
    """One host's replica of shard 0, and the records that its owner appends."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.shard = ReplicatedShard.open(directory, 0, Families(directory, CATALOGUE, 100))
        self.log: list[bytes] = []
        self.shard.append = self._append
        self.followed = 0

    def _append(self, payload: bytes, _at: float) -> Position:
        self.log.append(payload)
        return position(len(self.log))

    def follow(self, other: "Host", most: int = 1_000_000) -> None:
        """Follow the other host's records, at most so many."""
        for payload in other.log[self.followed : self.followed + most]:
            self.followed += 1
            self.shard.follow(payload, position(self.followed))

    def count(self, sequence: int, now: float, *samples: Any, source: str = "s-1", **stated: Any) -> None:
        """Count an envelope, and commit."""
        self.shard.ledger.admit(source, f"{source}:{sequence}", now)
        self.shard.fold.envelope(envelope(*samples, source=source, **stated), now)
        self.shard.commit(now)

    def scrape(self) -> str:
        return Exposition(self.directory).text().decode()


@contextmanager
def two_hosts(directory: Path) -> Iterator[tuple[Host, Host]]:
    owner, replica = Host(directory / "owner"), Host(directory / "replica")
    owner.shard.begin_owning()
    try:
        yield owner, replica
    finally:
        owner.shard.close()
        replica.shard.close()


def samples(chance: random.Random) -> list[dict[str, Any]]:
    names = ["a", "b", "c"]
    return [
        {"name": "tasks_processed_total", "labels": {"agent": chance.choice(names), "status": "success"}, "value": 1},
        {"name": "queue_size", "labels": {"queue": chance.choice(names)}, "value": chance.randint(0, 9)},
        {"name": "task_duration_seconds", "labels": {"agent": chance.choice(names)}, "values": [0.1, chance.random()]},
        {"name": f"made_{chance.choice(names)}_total", "type": "counter", "labels": {"x": "1"}, "value": 2},
        {"name": "waits_seconds", "type": "summary", "labels": {}, "values": [chance.random(), 0.5]},
    ]


def test_a_replica_has_the_state_of_its_owner_after_each_record(tmp_path: Path) -> None:
    chance = random.Random(1)
    with two_hosts(tmp_path) as (owner, replica):
        for step in range(60):
            now = NOW + step
            source = chance.choice(["s-1", "s-2", "s-3"])
            owner.count(step + 1, now, *chance.sample(samples(chance), 2), source=source)
            if step == 20:
                owner.shard.expire(now - 5)
                owner.shard.commit(now)
            if step == 30:
                assert removal.drop(owner.shard, "tasks_processed_total", {"agent": "a"}, now)
            if step == 40:
                owner.shard.follow_step(3600.0, now)
            replica.follow(owner)
            assert replica.shard.digest() == owner.shard.digest(), step
        assert replica.scrape() == owner.scrape()


def test_a_replica_takes_over_with_exact_totals_and_new_series(tmp_path: Path) -> None:
    counter = {"name": "made_total", "type": "counter", "labels": {"x": "1"}, "value": 1}
    with two_hosts(tmp_path) as (first, second):
        first.count(1, NOW, counter)
        second.follow(first)
        second.shard.begin_owning()
        second.count(2, NOW + 1, counter, {**counter, "labels": {"x": "2"}})
        first.follow(second)
        assert first.shard.digest() == second.shard.digest()
        assert 'made_total{x="1"} 2.0' in first.scrape()
        assert 'made_total{x="2"} 1.0' in first.scrape()


def test_a_refused_record_leaves_no_series_and_no_slot(tmp_path: Path) -> None:
    counter = {"name": "made_total", "type": "counter", "labels": {"x": "1"}, "value": 1}

    def refuse(_payload: bytes, _at: float) -> Position:
        raise OSError("another host owns the shard")

    with two_hosts(tmp_path) as (first, second):
        first.count(1, NOW, counter)
        second.follow(first)
        take, second.shard.append = second.shard.append, refuse
        with pytest.raises(OSError, match="another host"):
            second.count(2, NOW + 1, {**counter, "labels": {"x": "2"}})
        second.shard.rollback()
        assert second.shard.digest() == first.shard.digest()
        first.count(2, NOW + 1, {**counter, "labels": {"x": "3"}})
        second.follow(first)
        assert second.shard.digest() == first.shard.digest()
        second.shard.append = take


def test_a_snapshot_rebuilds_the_state(tmp_path: Path) -> None:
    chance = random.Random(2)
    with two_hosts(tmp_path) as (owner, replica):
        for step in range(40):
            owner.count(step + 1, NOW + step, *chance.sample(samples(chance), 3), source=chance.choice(["a", "b"]))
        removal.drop(owner.shard, "tasks_processed_total", {"agent": "b"}, NOW + 50)
        replica.shard.install(owner.shard.dump())
        replica.followed = len(owner.log)
        assert replica.shard.digest() == owner.shard.digest()
        assert replica.scrape() == owner.scrape()
        owner.count(41, NOW + 60, *samples(chance), source="a")
        replica.follow(owner)
        assert replica.shard.digest() == owner.shard.digest()
        assert replica.scrape() == owner.scrape()


@pytest.mark.parametrize("are_replicas", [True, False])
def test_a_fleet_begins_in_an_empty_directory(tmp_path: Path, *, are_replicas: bool) -> None:
    require_kind(tmp_path, 4, are_replicas=are_replicas)


def test_a_replicated_fleet_refuses_files_that_are_not_in_the_log(tmp_path: Path) -> None:
    Shard.open(tmp_path, 3, Families(tmp_path, CATALOGUE, 100)).close()
    require_kind(tmp_path, 4, are_replicas=False)
    with pytest.raises(RegistryError) as refused:
        require_kind(tmp_path, 4, are_replicas=True)
    assert str(refused.value) == (
        f"{tmp_path} has the files of shard 3 of a fleet without replication, which a replica would replace: "
        "run `busmon registry into-log` first, then name an empty directory"
    )


def test_a_fleet_without_replication_refuses_replicas(tmp_path: Path) -> None:
    ReplicatedShard.open(tmp_path, 3, Families(tmp_path, CATALOGUE, 100)).close()
    require_kind(tmp_path, 4, are_replicas=True)
    with pytest.raises(RegistryError) as refused:
        require_kind(tmp_path, 4, are_replicas=False)
    assert str(refused.value) == (
        f"{tmp_path} has replicas of a replicated fleet, but replication is off: set BUSMON_REPLICATION=stream, "
        "or name the directory that `busmon registry from-log` made"
    )


def test_a_replicas_series_take_room_on_its_host(tmp_path: Path) -> None:
    counter = {"name": "made_total", "type": "counter", "labels": {"x": "1"}, "value": 1}
    with two_hosts(tmp_path) as (owner, replica):
        limits = replace(UNBOUNDED, series_per_family=3)
        with closing(Shard.open(replica.directory, 1, replica.shard.families)) as neighbour:
            neighbour.limit(limits)
            owner.count(1, NOW, counter, {**counter, "labels": {"x": "2"}})
            replica.follow(owner)
            replica.shard.settle_admission()
            neighbour.fold.envelope(envelope(*({**counter, "labels": {"x": str(x)}} for x in range(9))), NOW)
            assert len(neighbour.fold.groups["made_total"].cells) == 1


def test_a_replica_knows_the_bodies_without_an_id_that_its_owner_counted(tmp_path: Path) -> None:
    with two_hosts(tmp_path) as (owner, replica):
        owner.shard.ledger.note_body("s-1", b"jobs_total 5")
        owner.count(1, NOW)
        replica.follow(owner)
        assert replica.shard.ledger.count_body("s-1", b"jobs_total 5") == 1
        assert replica.shard.digest() == owner.shard.digest()
        owner.shard.ledger.note_body("s-1", b"jobs_total 5")
        owner.count(2, NOW)
        replica.shard.install(owner.shard.dump())
        assert replica.shard.ledger.count_body("s-1", b"jobs_total 5") == 2
        assert replica.shard.digest() == owner.shard.digest()
