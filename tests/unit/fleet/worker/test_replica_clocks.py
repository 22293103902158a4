"""Clocks of hosts that differ: the owner's is that of its shard, and each host knows how its own differs."""

import time

import pytest

from busmon.fleet.worker.owner_signs import OwnerSigns
from busmon.replication.records import Record, decode
from tests.unit.fleet.replicated_host import Host, OtherHost
from tests.unit.fleet.settlements import delivery
from tests.unit.registry.registries import NOW


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


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (20.0, []),
        (90_030.0, ["this host's clock is 1d 1h ahead of that of host 'b': synchronize them"]),
        (-90_030.0, ["this host's clock is 1d 1h behind that of host 'b': synchronize them"]),
    ],
)
def test_a_follower_knows_and_says_how_its_clock_differs_from_the_owners_until_it_owns_the_shard(
    host: Host, other: OtherHost, monkeypatch: pytest.MonkeyPatch, seconds: float, said: list[str]
) -> None:
    other.follow(host.log.bodies)
    host.log.bodies += other.take_the_shard()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + seconds)
    assert not host.replication.obstacles
    host.later.pass_(0.5)
    assert host.followed.status.clock_ahead_seconds == pytest.approx(seconds if said else 0.0, abs=5)
    assert host.replication.obstacles == said
    host.replication.deliver([delivery(1)])
    assert host.replication.is_owning
    assert (host.followed.status.clock_ahead_seconds, host.replication.obstacles) == (0, [])


@pytest.mark.parametrize(
    ("read_after", "known"),
    [
        ([31.0, 1.5], [31.0, 0.0]),
        ([90_000.0, 10.0], [90_000.0, 0.0]),
        ([90_031.0, 90_000.0, 90_029.0], [90_031.0, 90_000.0, 90_000.0]),
        ([90_000.0, 90_031.0, 90_000.5], [90_000.0, 90_031.0, 90_000.5]),
        ([-89_990.0, -90_000.0, -89_971.0, -89_000.0], [-89_990.0, -90_000.0, -90_000.0, -89_000.0]),
        ([-90_000.0, -30.0], [-90_000.0, 0.0]),
        ([0.0, 30.0, 30.5, -30.5], [0.0, 0.0, 30.5, -30.5]),
    ],
)
def test_a_record_that_is_read_late_leaves_no_difference_of_clocks(
    monkeypatch: pytest.MonkeyPatch, read_after: list[float], known: list[float]
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    signs, noted = OwnerSigns(), []
    for seconds in read_after:
        signs.note_record(NOW - seconds, is_live=True)
        noted.append(signs.clock_ahead_seconds)
    assert noted == known


def test_a_record_of_the_past_says_nothing_of_clocks() -> None:
    signs = OwnerSigns()
    signs.note_record(time.time() - 90_000, is_live=False)
    assert signs.clock_ahead_seconds is None
    assert not signs.find_obstacle("b")


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
