"""The order in which addresses have their turns: the next is the one that took the least time.

An address counts while it wants something. One that comes, or comes back to wait, begins with the least time at which
a turn was last given, so none saves up turns. Pure.
"""

from collections import Counter
from collections.abc import Iterable


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
        """Count one use less; an address without one is forgotten."""
        self._uses[address] -= 1
        if not self._uses[address]:
            del self._uses[address], self._taken_seconds[address]

    def wait(self, address: str) -> None:
        """Note that a counted address waits from now on."""
        self._taken_seconds[address] = max(self._taken_seconds.get(address, 0.0), self._least_seconds)

    def choose(self, addresses: Iterable[str]) -> str:
        """Return that of these counted addresses whose turn is next; of equals, the first."""
        return min(addresses, key=self._taken_seconds.__getitem__)

    def sort(self, addresses: Iterable[str]) -> list[str]:
        """Return these counted addresses in the order of their turns."""
        return sorted(addresses, key=self._taken_seconds.__getitem__)

    def give(self, address: str) -> None:
        """Note that a counted address has its turn."""
        self._least_seconds = max(self._least_seconds, self._taken_seconds[address])

    def charge(self, address: str, seconds: float) -> None:
        """Note the duration of an address's turn, if it still counts."""
        if address in self._taken_seconds:
            self._taken_seconds[address] += seconds
