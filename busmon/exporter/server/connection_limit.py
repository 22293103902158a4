"""The limit of connections: their number, the order in which they make room, and the addresses that share it.

First goes a connection that was answered and stays open, then one that hasn't asked, then one whose client doesn't
read, each the longest in its state. A connection whose request is being answered, and whose client reads, stays, and so
does each of an address with less than an equal share. Some places are kept for such addresses, so that a newcomer has
one at once while a crowd's requests are answered. Lives on the event loop.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Protocol

_IPV6_NETWORK_BYTES = 8

_RESERVE = 8
"""One place of so many is kept for addresses with less than an equal share of the others."""


class State(Enum):
    """The state of a connection, with the time in seconds after which it may have to make room in this state."""

    KEPT = 0.0
    """Answered, and open for a further request."""

    ASKING = 0.1
    """New: its handshake or its first request isn't complete."""

    STALLED = 1.0
    """The client leaves bytes of an answer in the way."""

    BUSY = float("inf")
    """A request is being answered."""


# A protocol, though there is one implementation: `connection` imports this module, which would import it in turn.
class Limited(Protocol):
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
        """End the connection at once, and leave the limit."""


class ConnectionLimit:
    """The connections that count.

    Args:
        most: their number.
        now: gives the loop's time.
    """

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._reserve = most // _RESERVE
        self._is_full = False
        self._now = now
        self._states: dict[Limited, State] = {}
        # A dict keeps its order, so the first of a state has been in it for longest.
        self._by_state: dict[State, dict[Limited, None]] = {state: {} for state in State}
        self._counts: Counter[str] = Counter()

    def enter(self, connection: Limited) -> None:
        """Count a connection."""
        self._counts[connection.address] += 1
        self._set(connection)

    def note(self, connection: Limited) -> None:
        """Note the new state of a connection, if it counts."""
        if state := self._states.get(connection):
            del self._by_state[state][connection]
            self._set(connection)

    def leave(self, connection: Limited) -> None:
        """Count a connection no longer; a second time is of no effect."""
        if state := self._states.pop(connection, None):
            del self._by_state[state][connection]
            self._counts[connection.address] -= 1
            if not self._counts[connection.address]:
                del self._counts[connection.address]

    def count(self, address: str) -> int:
        """Count the connections of an address."""
        return self._counts[address]

    def make_room(self, address: str) -> bool:
        """Return whether there is room for one more of an address; if need be, cut a connection."""
        self._is_full = False
        if not self._has_room(address):
            found = self._find_expendable()
            if found:
                found.cut("crowded")
            self._is_full = found is None
        return not self._is_full

    def wants_place_of(self, address: str) -> bool:
        """Return whether a newcomer waits for a place, and the address has an equal share or more."""
        return self._is_full and self._has_share(address)

    def _has_room(self, address: str) -> bool:
        """Return whether a place is free, beyond those that are kept for addresses with less than a share."""
        free = self._most - len(self._states)
        return free > (self._reserve if self._has_share(address) else 0)

    def _has_share(self, address: str) -> bool:
        """Return whether an address has an equal share of the places, or more."""
        addresses = len(self._counts) + (address not in self._counts)
        return self._counts[address] * addresses >= self._most - self._reserve

    def _set(self, connection: Limited) -> None:
        state = self._states[connection] = connection.state
        self._by_state[state][connection] = None

    def _find_expendable(self) -> Limited | None:
        now = self._now()
        for state, connections in self._by_state.items():
            for connection in connections:
                if now - connection.since < state.value:
                    break
                if self._has_share(connection.address):
                    return connection
        return None


@lru_cache(maxsize=1024)
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
