"""The last bodies without an id that a shard counted, by their bytes: one that is redelivered may be among them.

Two bodies of the same bytes may both be genuine, so bytes are no id. But a redelivered body of other bytes than these
wasn't counted. Pure: the shard persists it.
"""

from collections import Counter, deque
from collections.abc import Iterable

MAX_BODIES = 65_536
"""More than a shard may hold unacked, so no counted body that may be redelivered is missing."""

USUAL = 2
"""So many bodies of the same bytes prove nothing."""


class Bodies:
    """The digests of the last bodies that were committed, the oldest first.

    After an earlier version of busmon, which noted none, any body is usual until the first one is noted.
    """

    def __init__(self) -> None:
        self._digests: deque[int] = deque()
        self._times: Counter[int] = Counter()
        self._is_complete = True

    def count(self, digest: int) -> int:
        """Return how many of the bodies have this digest."""
        return self._times[digest] if self._is_complete else USUAL

    def load(self, digests: Iterable[int] | None) -> None:
        """Add what `dump` made, or what a record brings; None if an earlier version made it."""
        if digests is None:
            self._is_complete = False
        else:
            self.add(digests)

    def add(self, digests: Iterable[int]) -> None:
        """Add bodies; the oldest ones beyond the bound are forgotten."""
        for digest in digests:
            self._is_complete = True
            self._digests.append(digest)
            self._times[digest] += 1
            if len(self._digests) > MAX_BODIES:
                self._forget_oldest()

    def dump(self) -> list[int] | None:
        """Return all digests in their order, for `load`."""
        return [*self._digests] if self._is_complete else None

    def _forget_oldest(self) -> None:
        oldest = self._digests.popleft()
        self._times[oldest] -= 1
        if not self._times[oldest]:
            del self._times[oldest]
