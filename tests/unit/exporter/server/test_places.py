"""The order in which connections give places: by address, by state and by time."""

from dataclasses import dataclass, field

import pytest

from busmon.exporter.server.places import Places, State, network


@dataclass(eq=False)
class Connection:
    """A connection in a state of the test's choice."""

    address: str
    state: State
    since: float
    places: Places
    cuts: list[str] = field(default_factory=list)

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)
        self.places.leave(self)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def held(clock: Clock, *connections: tuple[str, State]) -> tuple[Places, list[Connection]]:
    """Full places, taken one after the other, ten seconds ago."""
    places = Places(len(connections), clock)
    found = [Connection(*each, clock.now - 10 + number / 100, places) for number, each in enumerate(connections)]
    for each in found:
        places.enter(each)
    return places, found


def cut(connections: list[Connection]) -> list[int]:
    return [number for number, each in enumerate(connections) if each.cuts]


def test_while_there_is_room_nobody_gives_a_place(clock: Clock) -> None:
    places, connections = held(clock, ("a", State.KEPT), ("a", State.KEPT))
    places.leave(connections[0])
    places.leave(connections[0])
    assert places.make_room()
    assert not cut(connections)


@pytest.mark.parametrize(
    ("states", "order"),
    [
        ([State.STALLED, State.ASKING, State.KEPT, State.BUSY], [2, 1, 0]),
        ([State.ASKING, State.ASKING, State.BUSY], [0, 1]),
        ([State.BUSY, State.STALLED, State.STALLED], [1, 2]),
        ([State.BUSY, State.BUSY], []),
    ],
)
def test_the_idlest_goes_first_and_one_that_is_answered_never(
    clock: Clock, states: list[State], order: list[int]
) -> None:
    places, connections = held(clock, *(("a", state) for state in states))
    for count in range(1, len(order) + 1):
        assert places.make_room()
        assert sorted(order[:count]) == cut(connections)
        places.enter(Connection("a", State.BUSY, clock.now, places))
    assert not places.make_room()


def test_the_address_with_most_gives_first_whatever_the_others_do(clock: Clock) -> None:
    places, connections = held(
        clock, ("scraper", State.KEPT), ("flood", State.STALLED), ("flood", State.STALLED), ("other", State.ASKING)
    )
    assert places.make_room()
    assert cut(connections) == [1]


def test_an_address_with_less_than_an_equal_share_gives_none_even_if_nobody_else_can(clock: Clock) -> None:
    places, connections = held(clock, ("flood", State.BUSY), ("flood", State.BUSY), ("other", State.KEPT))
    assert not places.make_room()
    assert not cut(connections)


def test_of_addresses_with_equal_shares_the_idlest_gives(clock: Clock) -> None:
    places, connections = held(clock, ("a", State.ASKING), ("b", State.KEPT), ("c", State.KEPT))
    assert places.make_room()
    assert cut(connections) == [1]


@pytest.mark.parametrize("state", [State.ASKING, State.STALLED])
def test_a_state_is_given_its_time(clock: Clock, state: State) -> None:
    places, (connection,) = held(clock, ("a", state))
    connection.since = clock.now
    places.note(connection)
    assert not places.make_room()
    clock.now += 2 * state.value
    assert places.make_room()
    assert connection.cuts == ["crowded"]


def test_a_new_state_goes_behind_the_others_of_that_state(clock: Clock) -> None:
    places, connections = held(clock, ("a", State.KEPT), ("a", State.KEPT))
    connections[0].since = clock.now
    places.note(connections[0])
    assert places.make_room()
    assert cut(connections) == [1]


def test_who_left_takes_no_place_by_a_further_note(clock: Clock) -> None:
    places, (connection,) = held(clock, ("a", State.BUSY))
    places.leave(connection)
    places.note(connection)
    assert places.make_room()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::"),
        ("", ""),
    ],
)
def test_a_client_of_ipv6_has_its_whole_network(host: str, expected: str) -> None:
    assert network(host) == expected
