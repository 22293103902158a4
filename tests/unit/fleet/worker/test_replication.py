"""A worker that has lost a replicated shard undoes its batch before anything else happens to the shard."""

import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from busmon.fleet.worker.followed_log import TICK_SECONDS
from busmon.fleet.worker.owned_log import OwnedLog
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.admission.families import Families
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.registry.shard.resuming import find_position
from busmon.replication.records import Marker, Release, decode, make_birth, make_probe
from tests.unit.fleet.replicated_host import Host, MemoryLog, OtherHost
from tests.unit.fleet.settlements import QUEUE, delivery
from tests.unit.registry.registries import CATALOGUE


@pytest.mark.parametrize("step", ["a sign of life", "a batch that is old enough"])
def test_deliveries_right_behind_the_loss_of_the_shard_lose_none_before_them(
    host: Host, other: OtherHost, step: str
) -> None:
    assert host.replication.is_owning
    host.replication.deliver([delivery(1)])
    other.follow(host.log.bodies)
    host.log.interposed = other.take_the_shard()
    if step == "a sign of life":
        host.pace.run(partial(host.followed._append_empty, time.time()))
    else:
        host.pace.close(Trigger.INTERVAL)
    host.replication.deliver([delivery(2)])
    host.pace.close(Trigger.INTERVAL)
    assert (host.broker.settled, host.votes()) == ([], 0)
    host.later.pass_(0.5)
    assert (host.renewed, host.votes()) == ([QUEUE], 1)
    host.replication.void()
    host.replication.deliver([delivery(3, message_id="s:1"), delivery(4, message_id="s:2")])
    host.pace.close(Trigger.INTERVAL)
    assert (host.broker.settled, host.votes()) == ([3, 4], 3)


def test_signs_of_life_of_another_host_are_no_end_of_the_log(shard: ReplicatedShard, other: OtherHost) -> None:
    log, nothing = MemoryLog(), cast("Any", lambda *_: None)
    other.follow(log.bodies)
    log.bodies += [*other.take_the_shard(), make_probe("", "b")]
    followed = OwnedLog(
        shard, cast("Any", log), number=0, host="c", kept_bytes=1 << 30, progress=nothing, at_reading=nothing
    )
    for _ in range(2):  # from the log's last entry on, and then from the first: the log has no snapshot
        followed.turn()
        assert (followed.status.state, followed.is_current) == ("reading", False)
    followed.turn()
    assert (followed.status.state, followed.is_current) == ("following", True)
    log.is_interrupted = True
    followed.turn()
    log.is_interrupted = False
    log.bodies.append(make_probe("", "b"))
    followed.turn()
    assert (followed.status.state, followed.is_current) == ("interrupted", False)
    followed.turn()
    assert (followed.status.state, followed.is_current) == ("following", True)


def test_a_host_of_the_same_name_is_named_while_it_is_alive(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr("busmon.fleet.worker.followed_log.time.monotonic", lambda: now[0])
    assert not host.replication.obstacles
    for _ in range(2):
        now[0] += 3.0
        host.log.bodies.append(make_probe("", "a", writer="another process"))
        host.followed.turn()
    assert host.replication.obstacles == [
        "another host of this fleet is named 'a', too: set BUSMON_HOST_NAME on one of them"
    ]
    now[0] += 15.0
    assert not host.replication.obstacles


def test_signs_of_life_of_the_host_itself_name_no_other(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]
    monkeypatch.setattr("busmon.fleet.worker.followed_log.time.monotonic", lambda: now[0])
    for _ in range(3):
        now[0] += 6.0
        host.followed.announce()
        host.followed.tick(time.time())
        host.followed.turn()
    assert not host.replication.obstacles


def test_a_log_that_cannot_hold_two_snapshots_is_named(host: Host) -> None:
    assert not host.replication.obstacles
    host.followed._size.begin(1 << 29)
    (obstacle,) = host.replication.obstacles
    assert obstacle.startswith("the log of shard 0 is too short: two snapshots and the records between them take 1,3")


def test_a_full_disk_at_the_takeover_fails_the_shard_and_not_the_worker(
    host: Host, other: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.follow(host.log.bodies)
    host.log.bodies += other.take_the_shard()
    host.later.pass_(0.5)
    assert not host.replication.is_owning
    commit, full = host.shard.commit, OSError(28, "No space left on device")

    def refuse(_now: float) -> None:
        raise full

    monkeypatch.setattr(host.shard, "commit", refuse)
    host.replication.deliver([delivery(1)])
    assert (host.replication.is_owning, host.pace.error, host.broker.settled) == (True, str(full), [])
    monkeypatch.setattr(host.shard, "commit", commit)
    host.pace._retry()
    assert (host.pace.error, host.broker.settled, host.votes()) == ("", [1], 2)


@pytest.mark.parametrize(("is_served", "claims"), [(False, 1), (True, 2)])
def test_a_host_outbids_an_earlier_claim_only_if_it_gets_the_deliveries(
    shard: ReplicatedShard, other: OtherHost, *, is_served: bool, claims: int
) -> None:
    log, nothing = MemoryLog(), cast("Any", lambda *_: None)
    followed = OwnedLog(shard, cast("Any", log), number=0, host="c", kept_bytes=1 << 30, progress=nothing)
    for _ in range(2):
        followed.turn()
    other.follow(log.bodies)
    log.interposed = other.take_the_shard()[:1]
    assert followed.claim(is_served=is_served) is is_served
    assert sum(isinstance(decode(body), Marker) for body in log.bodies) == 1 + claims


def test_a_host_reads_on_from_its_files_and_keeps_them_if_the_log_is_another_one(
    other: OtherHost, tmp_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    log, nothing = MemoryLog(), cast("Any", lambda *_: None)

    def follow(shard: ReplicatedShard) -> OwnedLog:
        log.taken.clear()
        followed = OwnedLog(shard, cast("Any", log), number=0, host="c", kept_bytes=1 << 30, progress=nothing)
        for _ in range(5):
            followed.turn()
        return followed

    def open_again() -> ReplicatedShard:
        return ReplicatedShard.open(tmp_path / "c", 0, Families(tmp_path / "c", CATALOGUE, 100))

    def votes() -> float:
        return Exposition(tmp_path / "c").collect().value("votes_cast_total")

    other.follow(log.bodies)
    log.bodies += other.take_the_shard()
    with closing(open_again()) as first:
        assert follow(first).is_current
    last = len(log.bodies)
    with closing(open_again()) as again:
        followed = follow(again)
        assert (followed.is_current, min(log.taken), votes()) == (True, 2, 1)
    assert last > 3
    log.bodies = [make_birth("log-2"), *[make_probe("", "b")] * last]
    with closing(open_again()) as again:
        status = follow(again).status
        assert (status.state, status.cause.partition(";")[0]) == (
            "interrupted",
            "the log was deleted and made again",
        )
        assert votes() == 1


def test_an_idle_shard_has_another_owner_as_soon_as_its_owner_ends_in_order(host: Host, other: OtherHost) -> None:
    other.follow(host.log.bodies)
    marker, record = other.take_the_shard()
    were_owning = []
    for bodies in ([marker, record], [other.release(marker)]):
        host.log.bodies += bodies
        host.later.pass_(0.5)
        were_owning.append(host.replication.is_owning)
    assert (were_owning, host.votes()) == ([False, True], 1)


def test_an_owner_that_ends_in_order_says_so_and_claims_no_more(host: Host) -> None:
    host.replication.deliver([delivery(1)])
    host.pace.close(Trigger.DRAIN)
    host.replication.drain()
    assert isinstance(decode(host.log.bodies[-1]), Release)
    host.later.pass_(0.5)
    host.replication.beat(time.time(), is_asked=True)
    assert isinstance(decode(host.log.bodies[-1]), Release)
    assert (host.broker.settled, host.renewed, host.votes()) == ([1], [], 1)


def test_a_replica_whose_reading_was_cut_off_shows_nothing_before_it_is_whole(
    host: Host, other: OtherHost, tmp_path: Path
) -> None:
    other.follow(host.log.bodies)
    log, nothing = MemoryLog(), cast("Any", lambda *_: None)
    log.bodies = [*host.log.bodies, *other.take_the_shard()]
    (tmp_path / "c").mkdir()

    def follow(*, turns: int, has_end: bool) -> list[tuple[str, bool]]:
        """Return after each turn the state, and whether the files say that they are whole; then kill the worker."""
        found = []
        log.is_connected = has_end
        with closing(ReplicatedShard.open(tmp_path / "c", 0, Families(tmp_path / "c", CATALOGUE, 100))) as shard:
            followed = OwnedLog(shard, cast("Any", log), number=0, host="c", kept_bytes=1 << 30, progress=nothing)
            if shard.position is None:
                log.read_from("first")
            for _ in range(turns):
                followed.turn()
                position = find_position(tmp_path / "c", 0)
                found.append((followed.status.state, position is not None and position.is_whole))
        return found

    assert follow(turns=2, has_end=False) == [("reading", False), ("reading", False)]
    assert follow(turns=2, has_end=False) == [("reading", False), ("reading", False)]
    assert follow(turns=3, has_end=True)[-1] == ("following", True)
    assert follow(turns=1, has_end=False) == [("interrupted", True)]


def test_a_host_that_finds_no_beginning_goes_on_at_the_owners_next_snapshot(
    shard: ReplicatedShard, other: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, log, nothing = [time.monotonic()], MemoryLog(), cast("Any", lambda *_: None)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    other.follow(log.bodies)
    marker, vote = other.take_the_shard()
    log.bodies = [marker, vote]
    followed = OwnedLog(
        shard, cast("Any", log), number=0, host="c", kept_bytes=1 << 30, progress=nothing, at_reading=nothing
    )

    def turn() -> tuple[str, str]:
        for _ in range(4):
            now[0] += TICK_SECONDS
            followed.turn()
        return followed.status.state, followed.status.cause

    assert turn() == ("reading", "the log has neither its beginning nor a snapshot")
    log.bodies += other.write_snapshot(vote)
    assert turn() == ("following", "")
    assert shard.fold.groups["votes_cast_total"].cells
