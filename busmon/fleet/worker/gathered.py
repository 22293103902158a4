"""The deliveries of one lane that wait to be folded together, since a fold has a fixed cost. One thread."""

import time
from collections.abc import Sequence

from busmon.bus.frames.delivery import Delivery, sizes_of


class Gathered:
    """The deliveries in the order of their arrival.

    Attributes:
        since: the monotonic clock's time of the first one's arrival; None without one.
        bytes: their size, as of `sizes_of`.
    """

    def __init__(self) -> None:
        self.since: float | None = None
        self.bytes = 0
        self._deliveries: list[Delivery] = []

    def __len__(self) -> int:
        """Return their number."""
        return len(self._deliveries)

    def add(self, deliveries: Sequence[Delivery]) -> None:
        """Add deliveries that arrived together."""
        if self.since is None:
            self.since = time.monotonic()
        self._deliveries += deliveries
        self.bytes += sum(sizes_of(deliveries))

    def take(self) -> list[Delivery]:
        """Take all out."""
        deliveries = self._deliveries
        self.since, self.bytes, self._deliveries = None, 0, []
        return deliveries
