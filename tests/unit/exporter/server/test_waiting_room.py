"""The waiting room: who begins next, and who can't wait."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from busmon.exporter.server.waiting_room import OTHERS_SECONDS, WaitingRoom


def time() -> float:
    return 0.0


Open = Callable[[], socket.socket]


@pytest.fixture
def newcomer() -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(socket.socket())


def test_the_address_with_fewest_places_begins_and_of_equals_the_one_that_waits_longest(newcomer: Open) -> None:
    room, places = WaitingRoom(8, time), {"crowd": 5, "a": 0, "b": 0}
    waiting = {each: [newcomer() for _ in range(2)] for each in ("crowd", "a", "b")}
    for address, newcomers in waiting.items():
        for each in newcomers:
            assert room.add(each, address) is None
    begun = []
    while room:
        address = room.next_address(places.__getitem__)
        begun.append(address)
        assert room.take(address) is waiting[address].pop(0)
    assert begun == ["a", "b", "a", "b", "crowd", "crowd"]


def test_the_last_of_the_address_with_most_can_not_wait(newcomer: Open) -> None:
    room = WaitingRoom(3, time)
    crowd = [newcomer() for _ in range(4)]
    assert [room.add(each, "crowd") for each in crowd] == [None, None, None, crowd[3]]
    scraper = newcomer()
    assert room.add(scraper, "scraper") is crowd[2]
    assert [room.take("crowd"), room.take("crowd"), room.take("scraper")] == [crowd[0], crowd[1], scraper]
    assert not room


def test_of_equals_the_newcomer_can_not_wait(newcomer: Open) -> None:
    room = WaitingRoom(2, time)
    scraper, first, second = newcomer(), newcomer(), newcomer()
    assert [room.add(scraper, "scraper"), room.add(first, "x1"), room.add(second, "x2")] == [None, None, second]
    assert room.take("scraper") is scraper


def test_closing_it_closes_who_waits(newcomer: Open) -> None:
    room, waiting = WaitingRoom(2, time), newcomer()
    room.add(waiting, "a")
    room.close()
    assert waiting.fileno() == -1
    assert not room


def test_where_all_come_from_one_address_a_full_room_takes_none(newcomer: Open) -> None:
    now = 0.0
    room = WaitingRoom(1, lambda: now)
    room.add(newcomer(), "scraper")
    room.take("scraper")
    now = OTHERS_SECONDS
    room.add(newcomer(), "proxy")
    is_open = [room.is_open]
    now += 1
    is_open.append(room.is_open)
    room.take("proxy")
    assert [*is_open, room.is_open] == [True, False, True]
