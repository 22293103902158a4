"""The places of connections: their number, the order in which they make room, and the addresses that share them.

The address with most connections gives a place first, and one with less than an equal share none. Of its connections
that is one which was answered and stays open, then one that hasn't asked, then one whose client doesn't read. A
connection whose request is being answered, and whose client reads, keeps its place. Lives on the event loop.
"""

from collections.abc import Callable, Iterator
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import Protocol

_IPV6_NETWORK_BYTES = 8


class State(Enum):
    """The state of a connection, with the time in seconds after which it may lose its place in this state."""

    KEPT = 0.0
    """Answered, and open for a further request."""

    ASKING = 0.1
    """New: its handshake or its first request isn't complete."""

    STALLED = 1.0
    """The client leaves bytes of an answer in the way."""

    BUSY = float("inf")
    """A request is being answered."""


class Place(Protocol):
    """A connection.

    Attributes:
        address: the client's, as `network` returns it.
        since: the loop's time at which it came into its state.
    """

    address: str
    since: float

    @property
    def state(self) -> State:
        """Return the present state."""

    def cut(self, reason: str) -> None:
        """End the connection at once, and leave the place."""


class Places:
    """The places that are taken.

    Args:
        most: their number.
        now: gives the loop's time.
    """

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._states: dict[Place, State] = {}
        self._by_address: dict[str, dict[State, dict[Place, None]]] = {}

    def enter(self, place: Place) -> None:
        """Take a place."""
        self._by_address.setdefault(place.address, {state: {} for state in State})
        self._set(place)

    def note(self, place: Place) -> None:
        """Note the place's new state, unless it was left."""
        if state := self._states.get(place):
            del self._by_address[place.address][state][place]
            self._set(place)

    def leave(self, place: Place) -> None:
        """Leave a place; a second time is of no effect."""
        if state := self._states.pop(place, None):
            held = self._by_address[place.address]
            del held[state][place]
            if not any(held.values()):
                del self._by_address[place.address]

    def make_room(self) -> bool:
        """Return whether a place is free; if need be, cut a connection."""
        if len(self._states) < self._most:
            return True
        found = max(self._find_expendable(), default=None, key=self._rank)
        if found:
            found.cut("crowded")
        return found is not None

    def _set(self, place: Place) -> None:
        # A dict keeps its order, so the first of a state is the one that has been in it for longest.
        self._states[place] = place.state
        self._by_address[place.address][place.state][place] = None

    def _find_expendable(self) -> Iterator[Place]:
        """Yield the first of each address that may lose its place."""
        now, share = self._now(), self._most / len(self._by_address)
        for held in self._by_address.values():
            if _count(held) >= share:
                firsts = (next(iter(held[state]), None) for state in State)
                yield from (first for first in firsts if first and now - first.since >= first.state.value)

    def _rank(self, place: Place) -> tuple[int, int, float]:
        return _count(self._by_address[place.address]), -[*State].index(place.state), -place.since


def _count(held: dict[State, dict[Place, None]]) -> int:
    return sum(map(len, held.values()))


def network(host: str) -> str:
    """Return the client behind an address: an IPv6 address's network of 64 bits, since a client has all of it."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(address.packed[:_IPV6_NETWORK_BYTES].ljust(len(address.packed), b"\0")))
