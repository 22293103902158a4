"""The replicas of a host: in the roll call, in readiness, and before a scrape."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from busmon import status
from busmon.errors import ReplicaIncompleteError
from busmon.exporter.readiness import replicas as module
from busmon.exporter.readiness.documents import fleet_reasons, readiness
from busmon.exporter.readiness.replicas import Replicas
from busmon.exporter.readiness.rollcall import ReplicaRow, RollCall, call
from busmon.status import FleetStatus, ShardStatus, WorkerStatus
from tests.unit.exporter.fleet import NOW, replicated, shard, supervisor, worker


def roll(*shards: ShardStatus, beat_age: float = 0.5, has_rivals: bool = False) -> RollCall:
    owner = replace(worker(0, *shards, beat_age=beat_age), has_rivals=has_rivals)
    return call(FleetStatus(supervisor(workers=1), (owner,)), NOW)


def test_a_row_has_the_replica_and_none_without_replication() -> None:
    first, second = roll(replicated(0), shard(1)).shards
    assert first.replica == ReplicaRow("owning", "", "host-a", 1.5, 600, 1000)
    assert second.replica is None


def test_a_replica_ages_while_its_worker_is_silent() -> None:
    (row,) = roll(replicated(0), beat_age=20).shards
    assert row.replica is not None
    assert row.replica.lag_seconds == 21.5


def test_a_host_that_follows_is_ready_and_names_the_owner() -> None:
    following = roll(replicated(0), replicated(1, "following", "host-b"), has_rivals=True)
    document = readiness(following)
    assert (document["status"], document["degraded"]) == ("ready", [])
    assert document["shards"][1] == {
        "shard": 1,
        "worker": 0,
        "state": "standby",
        "cause": "host host-b owns the shard",
        "last_commit_age_seconds": 0.4,
        "owner": "host-b",
        "replica": "following",
        "replica_lag_seconds": 1.5,
    }


def test_a_standby_without_replication_is_still_one() -> None:
    assert readiness(roll(replace(shard(0), is_served=False), has_rivals=True))["status"] == "standby"


def test_a_host_that_reads_its_logs_is_not_ready_and_says_so_once() -> None:
    reading = roll(replicated(0, "reading", ""), replicated(1, "reading", ""), replicated(2))
    document = readiness(reading)
    assert document["status"] == "not_ready"
    assert document["degraded"] == [
        "shards 0 and 1: this host is still reading the logs, and serves no metrics until then"
    ]
    assert document["shards"][0]["replica_lag_seconds"] is None
    assert any(fleet_reasons(reading))


def test_a_host_that_cannot_read_a_log_is_degraded_and_serves_what_it_has() -> None:
    document = readiness(roll(replicated(0, "interrupted", "host-b", "connection_lost: reset"), replicated(1)))
    assert document["status"] == "ready"
    assert document["degraded"] == ["shard 0: this host can't read the log: connection_lost: reset"]


def test_a_silent_worker_is_told_instead_of_its_replicas() -> None:
    degraded = readiness(roll(replicated(0, "reading", ""), beat_age=20))["degraded"]
    assert not [reason for reason in degraded if "reading the log" in reason]


class TestBeforeAScrape:
    @pytest.fixture
    def registry_dir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: NOW))
        status.write(tmp_path, supervisor(workers=2))
        return tmp_path

    def told(self, registry_dir: Path, *workers: WorkerStatus) -> None:
        for each in workers:
            status.write(registry_dir, each)

    def test_whole_replicas_may_be_shown(self, registry_dir: Path) -> None:
        self.told(registry_dir, worker(0, replicated(0)), worker(1, replicated(1, "following", "host-b")))
        Replicas(registry_dir).require_whole()

    @pytest.mark.parametrize("state", ["claiming", "interrupted"])
    def test_a_replica_that_was_whole_may_be_shown_in_doubt(self, registry_dir: Path, state: str) -> None:
        self.told(registry_dir, worker(0, replicated(0)), worker(1, replicated(1, state)))
        Replicas(registry_dir).require_whole()

    def test_a_replica_that_is_being_read_may_not(self, registry_dir: Path) -> None:
        replicas = Replicas(registry_dir)
        self.told(registry_dir, worker(0, replicated(0)), worker(1, replicated(1, "reading", "")))
        with pytest.raises(ReplicaIncompleteError, match=r"^shard 1 is still being read from its log$"):
            replicas.require_whole()
        self.told(registry_dir, worker(1, replicated(1)))
        replicas.require_whole()
        self.told(registry_dir, worker(0, replicated(0, "reading", ""), beat_age=20))
        with pytest.raises(ReplicaIncompleteError, match=r"^shard 0 is still"):
            replicas.require_whole()

    def test_at_first_each_worker_must_have_told_and_later_one_may_be_missing(self, registry_dir: Path) -> None:
        replicas = Replicas(registry_dir)
        with pytest.raises(ReplicaIncompleteError, match=r"^not every worker has said yet"):
            replicas.require_whole()
        self.told(registry_dir, worker(0, replicated(0)))
        with pytest.raises(ReplicaIncompleteError, match=r"^not every worker has said yet"):
            replicas.require_whole()
        self.told(registry_dir, worker(1, replicated(1)))
        replicas.require_whole()
        (registry_dir / "status" / "worker-1.json").unlink()
        replicas.require_whole()

    def test_a_shard_whose_worker_tells_of_no_replica_may_not(self, registry_dir: Path) -> None:
        self.told(registry_dir, worker(0, shard(0)), worker(1, replicated(1)))
        with pytest.raises(ReplicaIncompleteError):
            Replicas(registry_dir).require_whole()

    def test_how_clocks_differ_is_known_until_a_worker_says_otherwise(self, registry_dir: Path) -> None:
        replicas = Replicas(registry_dir)

        def tell(seconds: float | None) -> dict[str, float]:
            ahead, equal = replicated(0), replicated(1)
            assert ahead.replica
            ahead.replica.clock_ahead_seconds = seconds
            self.told(registry_dir, worker(0, ahead), worker(1, equal))
            replicas.require_whole()
            return replicas.ahead_seconds

        assert tell(None) == {}
        assert tell(90_000.0) == {"shard0": 90_000.0}
        assert tell(None) == {"shard0": 90_000.0}
        assert tell(0.0) == {"shard0": 0.0}
