"""The newcomers that wait for a place: their number, and the order in which addresses have their turns.

A newcomer is an accepted socket. Where too many wait, the last of the address with most is closed, so that clients of
other addresses don't wait behind them in the kernel's queue, which knows no addresses. Where all clients come from one
address, as through a proxy, there are no others: newcomers wait in that queue, and none is closed. Pure.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable

OTHERS_SECONDS = 300.0
"""How long an address is expected to come again; scrapers come once in a few minutes at least."""

_REMEMBERED = 1024


class WaitingRoom:
    """The newcomers.

    Args:
        most: their number.
        now: gives the loop's time.
    """

    def __init__(self, most: int, now: Callable[[], float]) -> None:
        self._most = most
        self._now = now
        self._count = 0
        self._waiting: dict[str, deque[socket.socket]] = {}
        self._seen_at: OrderedDict[str, float] = OrderedDict()  # the first is the longest ago

    def __bool__(self) -> bool:
        """Return whether anyone waits."""
        return bool(self._waiting)

    @property
    def is_open(self) -> bool:
        """Return whether a newcomer may be added: to a full room only where clients of several addresses come."""
        return self._count < self._most or self._count_addresses() > 1

    def add(self, newcomer: socket.socket, address: str) -> socket.socket | None:
        """Let a newcomer wait; return the one that can't, if there are too many."""
        self._note(address)
        self._waiting.setdefault(address, deque()).append(newcomer)
        self._count += 1
        if self._count <= self._most:
            return None
        # Of equals the one that came last: whoever waits longest keeps its place.
        greediest = max(reversed(self._waiting), key=lambda each: len(self._waiting[each]))
        return self._take(greediest, deque.pop)

    def next_address(self, places: Callable[[str], int]) -> str:
        """Return the address whose turn it is: the one with fewest places, and of those the one that waits longest."""
        return min(self._waiting, key=places)

    def take(self, address: str) -> socket.socket:
        """Take out the first newcomer of an address."""
        return self._take(address, deque.popleft)

    def close(self) -> None:
        """Close all."""
        for newcomers in self._waiting.values():
            for newcomer in newcomers:
                newcomer.close()
        self._waiting, self._count = {}, 0

    def _take(self, address: str, take: Callable[[deque[socket.socket]], socket.socket]) -> socket.socket:
        # An address that still waits goes behind the others.
        newcomers = self._waiting.pop(address)
        taken = take(newcomers)
        self._count -= 1
        if newcomers:
            self._waiting[address] = newcomers
        return taken

    def _note(self, address: str) -> None:
        self._seen_at.pop(address, None)
        self._seen_at[address] = self._now()
        if len(self._seen_at) > _REMEMBERED:
            self._seen_at.popitem(last=False)

    def _count_addresses(self) -> int:
        """Count the addresses that came lately, and forget the others."""
        since = self._now() - OTHERS_SECONDS
        while self._seen_at and self._seen_at[next(iter(self._seen_at))] < since:
            self._seen_at.popitem(last=False)
        return len(self._seen_at)
