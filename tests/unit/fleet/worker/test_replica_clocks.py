"""Clocks of hosts that differ: the owner's is that of its shard, and each host knows how its own differs."""

import time

import pytest

from busmon.replication.records import Record, decode
from tests.unit.fleet.replicated_host import Host, OtherHost
from tests.unit.fleet.settlements import delivery


@pytest.mark.parametrize(("clock_seconds", "steps"), [(4.0, []), (4.0 + 90_000, [90_000]), (4.0 - 90_000, [-90_000])])
def test_a_takeover_corrects_a_clock_that_differs_and_takes_no_silence_for_a_step(
    host: Host, other: OtherHost, monkeypatch: pytest.MonkeyPatch, clock_seconds: float, steps: list[int]
) -> None:
    other.follow(host.log.bodies)
    host.log.bodies += other.take_the_shard()
    host.later.pass_(0.5)
    heard_at, now, found = time.monotonic(), time.time(), []
    monkeypatch.setattr(time, "monotonic", lambda: heard_at + 4.0)
    monkeypatch.setattr(time, "time", lambda: now + clock_seconds)
    monkeypatch.setattr(host.shard, "follow_step", lambda seconds, _now: found.append(round(seconds)))
    host.replication.deliver([delivery(1)])
    assert (host.replication.is_owning, found) == (True, steps)


@pytest.mark.parametrize(("seconds", "known"), [(20.0, 0.0), (90_000.0, 90_000.0), (-90_000.0, -90_000.0)])
def test_a_follower_knows_how_its_clock_differs_from_the_owners_until_it_owns_the_shard(
    host: Host, other: OtherHost, monkeypatch: pytest.MonkeyPatch, seconds: float, known: float
) -> None:
    other.follow(host.log.bodies)
    host.log.bodies += other.take_the_shard()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    host.later.pass_(0.5)
    assert host.followed.status.clock_ahead_seconds == pytest.approx(known, abs=5)
    host.replication.deliver([delivery(1)])
    assert host.replication.is_owning
    assert host.followed.status.clock_ahead_seconds == 0


def test_the_time_of_the_log_is_the_owners_after_a_takeover_by_a_host_that_is_behind(
    host: Host, other: OtherHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    other.follow(host.log.bodies)
    host.log.bodies += other.take_the_shard()
    host.later.pass_(0.5)
    now = time.time() - 90_000
    monkeypatch.setattr(time, "time", lambda: now)
    host.replication.deliver([delivery(1)])
    last = decode(host.log.bodies[-1])
    assert isinstance(last, Record)
    assert last.at == now
