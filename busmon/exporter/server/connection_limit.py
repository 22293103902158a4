"""The limit of connections: their number, the order in which they make room, and the addresses that share it.

First goes a connection that was answered and stays open, then one that hasn't asked, then one whose client doesn't
read, each the longest in its state. A connection whose request is being answered, and whose client reads, stays, and so
does each of an address with less than an equal share. Lives on the event loop.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv6Address, ip_address
from typing import Protocol

_IPV6_NETWORK_BYTES = 8


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

    def make_room(self) -> bool:
        """Return whether there is room for one more; if need be, cut a connection."""
        if len(self._states) < self._most:
            return True
        found = self._find_expendable()
        if found:
            found.cut("crowded")
        return found is not None

    def _set(self, connection: Limited) -> None:
        state = self._states[connection] = connection.state
        self._by_state[state][connection] = None

    def _find_expendable(self) -> Limited | None:
        now, share = self._now(), self._most / len(self._counts)
        for state, connections in self._by_state.items():
            for connection in connections:
                if now - connection.since < state.value:
                    break
                if self._counts[connection.address] >= share:
                    return connection
        return None


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
