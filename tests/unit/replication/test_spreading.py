"""Shards are spread evenly, and every host knows how."""

from collections import Counter

import pytest

from busmon.replication.records import Marker, Probe
from busmon.replication.spreading import Hosts, Namesakes, choose_host


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [({"a"}, ["a", "a", "a", "a"]), ({"b", "a"}, ["a", "b", "a", "b"]), (["c", "b", "a"], ["a", "b", "c", "a"])],
)
def test_a_host_prefers_its_share(hosts: set[str], expected: list[str]) -> None:
    assert [choose_host(hosts, shard) for shard in range(4)] == expected


def test_no_host_has_two_shards_more_than_another() -> None:
    shares = Counter(choose_host("abc", shard) for shard in range(256))
    assert max(shares.values()) - min(shares.values()) <= 1


def test_a_host_that_is_silent_counts_as_gone() -> None:
    hosts = Hosts(15.0)
    hosts.note("a", 100.0)
    hosts.note("b", 110.0)
    assert hosts.find_alive(114.0) == {"a", "b"}
    assert hosts.find_alive(115.0) == {"b"}
    hosts.note("a", 116.0)
    assert hosts.find_alive(117.0) == {"a", "b"}


def test_another_host_of_the_name_is_known_once_it_goes_on() -> None:
    namesakes = Namesakes("a", 15.0, 2.5)
    for now in (100.0, 101.0):
        namesakes.note(Marker("log", 1, "late", "a"), "own", now)
    assert not namesakes.find_obstacle(101.0)
    for now in (100.0, 105.0):
        namesakes.note(Probe("", "", "a", writer="other"), "own", now)
    assert namesakes.find_obstacle(119.0) == (
        "another host of this fleet is named 'a', too: set BUSMON_HOST_NAME on one of them"
    )
    assert not namesakes.find_obstacle(120.0)


def test_a_host_is_no_other_host_of_its_name() -> None:
    namesakes = Namesakes("a", 15.0, 2.5)
    for now in (100.0, 105.0):
        namesakes.note(Marker("log", 1, "own", "a"), "own", now)
        namesakes.note(Marker("log", 1, "other", "b"), "own", now)
        namesakes.note(Probe("", "", "a", writer=namesakes.writer), "own", now)
        namesakes.note(Probe("", "", ""), "own", now)
    assert not namesakes.find_obstacle(105.0)
