"""The order in which addresses have their turns: the next is the one that took the least CPU time.

An address counts while it wants something. One that comes, or comes back to wait, begins with the least time at which
a turn was last given, so none saves up turns. What it took is remembered when it leaves, so none gets rid of it by
asking again and again. Pure.
"""

from collections import Counter
from collections.abc import Iterable

_REMEMBERED = 1024
"""Addresses that want nothing, whose time is remembered."""


class TurnOrder:
    """The addresses, with the time that each took."""

    def __init__(self) -> None:
        self._uses: Counter[str] = Counter()
        self._taken_seconds: dict[str, float] = {}
        self._least_seconds = 0.0

    def enter(self, address: str) -> None:
        """Count one more use of an address."""
        self._uses[address] += 1
        self.wait(address)

    def leave(self, address: str) -> None:
        """Count one use less."""
        self._uses[address] -= 1
        if not self._uses[address]:
            del self._uses[address]
            self._forget()

    def wait(self, address: str) -> None:
        """Note that a counted address waits from now on."""
        self._taken_seconds[address] = max(self._taken_seconds.get(address, 0.0), self._least_seconds)

    def choose(self, addresses: Iterable[str]) -> str:
        """Return that of these addresses whose turn is next: one that no longer counts; of equals, the first."""
        return min(addresses, key=self._time_of)

    def sort(self, addresses: Iterable[str]) -> list[str]:
        """Return these addresses in the order of their turns; equals keep theirs."""
        return sorted(addresses, key=self._time_of)

    def give(self, address: str) -> None:
        """Note that a counted address has its turn."""
        self._least_seconds = max(self._least_seconds, self._taken_seconds[address])

    def charge(self, address: str, seconds: float) -> None:
        """Note the duration of an address's turn, unless the address is forgotten."""
        if address in self._taken_seconds:
            self._taken_seconds[address] += seconds

    def _time_of(self, address: str) -> float:
        return self._taken_seconds[address] if address in self._uses else -1.0

    def _forget(self) -> None:
        """Forget all if nobody wants anything; beyond the bound, those that want nothing and came first."""
        if not self._uses:
            self._taken_seconds.clear()
        elif len(self._taken_seconds) - len(self._uses) > _REMEMBERED:
            absent = [address for address in self._taken_seconds if address not in self._uses]
            for address in absent[: _REMEMBERED // 2]:
                del self._taken_seconds[address]
