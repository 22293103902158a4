"""The order in which connections give way: by address, by state and by time."""

from dataclasses import dataclass, field

import pytest

from busmon.exporter.server.connection_limit import ConnectionLimit, State, network


@dataclass(eq=False)
class Connection:
    """A connection in a state of the test's choice."""

    address: str
    state: State
    since: float
    limit: ConnectionLimit
    cuts: list[str] = field(default_factory=list)

    def cut(self, reason: str) -> None:
        self.cuts.append(reason)
        self.limit.leave(self)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def held(clock: Clock, *connections: tuple[str, State]) -> tuple[ConnectionLimit, list[Connection]]:
    """A full limit of connections, made one after the other, ten seconds ago."""
    limit = ConnectionLimit(len(connections), clock)
    found = [Connection(*each, clock.now - 10 + number / 100, limit) for number, each in enumerate(connections)]
    for each in found:
        limit.enter(each)
    return limit, found


def cut(connections: list[Connection]) -> list[int]:
    return [number for number, each in enumerate(connections) if each.cuts]


def test_while_there_is_room_nobody_gives_a_place(clock: Clock) -> None:
    limit, connections = held(clock, ("a", State.KEPT), ("a", State.KEPT))
    limit.leave(connections[0])
    limit.leave(connections[0])
    assert limit.make_room("a")
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
    limit, connections = held(clock, *(("a", state) for state in states))
    for count in range(1, len(order) + 1):
        assert limit.make_room("a")
        assert sorted(order[:count]) == cut(connections)
        limit.enter(Connection("a", State.BUSY, clock.now, limit))
    assert not limit.make_room("a")


def test_the_address_with_more_than_an_equal_share_gives_way_whatever_the_others_do(clock: Clock) -> None:
    limit, connections = held(
        clock, ("scraper", State.KEPT), ("flood", State.STALLED), ("flood", State.STALLED), ("other", State.ASKING)
    )
    assert limit.make_room("a")
    assert cut(connections) == [1]


def test_an_address_with_less_than_an_equal_share_gives_none_even_if_nobody_else_can(clock: Clock) -> None:
    limit, connections = held(clock, ("flood", State.BUSY), ("flood", State.BUSY), ("other", State.KEPT))
    assert not limit.make_room("a")
    assert not cut(connections)


def test_of_addresses_with_equal_shares_the_idlest_gives(clock: Clock) -> None:
    limit, connections = held(clock, ("a", State.ASKING), ("b", State.KEPT), ("c", State.KEPT))
    assert limit.make_room("a")
    assert cut(connections) == [1]


def fill(limit: ConnectionLimit, address: str, clock: Clock) -> int:
    """Let busy connections of an address begin while there is room; return their number."""
    count = 0
    while limit.make_room(address):
        limit.enter(Connection(address, State.BUSY, clock.now, limit))
        count += 1
    return count


def test_an_address_whose_requests_are_all_under_way_leaves_places_for_others(clock: Clock) -> None:
    limit = ConnectionLimit(64, clock)
    assert fill(limit, "crowd", clock) == 56
    assert fill(limit, "scraper", clock) == 8
    assert not limit.make_room("other")


def test_a_crowd_of_one_address_gives_way_to_its_own_newcomers(clock: Clock) -> None:
    limit = ConnectionLimit(64, clock)
    stalled = [Connection("crowd", State.STALLED, clock.now - 10, limit) for _ in range(56)]
    for each in stalled:
        limit.enter(each)
    assert limit.make_room("crowd")
    assert cut(stalled) == [0]


def test_an_answered_connection_gives_its_place_to_a_newcomer_that_found_none(clock: Clock) -> None:
    limit = ConnectionLimit(64, clock)
    limit.enter(Connection("scraper", State.BUSY, clock.now, limit))
    assert not limit.wants_place_of("crowd")
    fill(limit, "crowd", clock)
    assert limit.wants_place_of("crowd")
    assert not limit.wants_place_of("scraper")
    assert limit.make_room("scraper")
    assert not limit.wants_place_of("crowd")


@pytest.mark.parametrize("state", [State.ASKING, State.STALLED])
def test_a_state_is_given_its_time(clock: Clock, state: State) -> None:
    limit, (connection,) = held(clock, ("a", state))
    connection.since = clock.now
    limit.note(connection)
    assert not limit.make_room("a")
    clock.now += 2 * state.value
    assert limit.make_room("a")
    assert connection.cuts == ["crowded"]


def test_a_new_state_goes_behind_the_others_of_that_state(clock: Clock) -> None:
    limit, connections = held(clock, ("a", State.KEPT), ("a", State.KEPT))
    connections[0].since = clock.now
    limit.note(connections[0])
    assert limit.make_room("a")
    assert cut(connections) == [1]


def test_who_left_takes_no_place_by_a_further_note(clock: Clock) -> None:
    limit, (connection,) = held(clock, ("a", State.BUSY))
    limit.leave(connection)
    limit.note(connection)
    assert limit.make_room("a")


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
