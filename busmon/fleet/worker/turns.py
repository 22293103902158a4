"""The deliveries that wait while their lane is behind: the next turn is the user's that took the least time.

Order is kept within a user, and so within a source. A user whose deliveries take long waits for its own work; other
users wait for at most one slice of it. Users with little to fold share a turn, since a turn has a fixed cost, and each
is charged for its bytes of a run. Time counts only while deliveries wait. A user that arrives later starts with the
least time of the waiting users. The broker has checked the users; deliveries without a user share one turn. Pure.
"""

from collections.abc import Sequence
from operator import attrgetter

from busmon.bus.frames.delivery import Delivery, sizes_of

User = str | None

MAX_SHARED_BYTES = 64 * 1024
"""The size of a turn that several users share."""

MAX_SHARED = 1000
"""The deliveries of such a turn."""

_DELIVERY_BYTES = 500
"""The fixed cost of a delivery, as bytes of a body."""

_tag_of, _encoding_of = attrgetter("delivery_tag"), attrgetter("content_encoding")


class Turns:
    """The deliveries that wait in one lane.

    Attributes:
        bytes: the size of the waiting deliveries.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._waiting: dict[User, list[Delivery]] = {}
        self._taken_seconds: dict[User, float] = {}

    def __bool__(self) -> bool:
        """Return whether deliveries wait."""
        return bool(self._waiting)

    def add(self, deliveries: Sequence[Delivery], users: Sequence[User]) -> None:
        """Add deliveries behind the waiting ones of their users."""
        # It holds for all newcomers of this call: each begins with it at least.
        least = min((self._taken_seconds[user] for user in self._waiting), default=0.0)
        for user, delivery in zip(users, deliveries, strict=True):
            waiting = self._waiting.get(user)
            if waiting is None:
                self._taken_seconds[user] = max(self._taken_seconds.get(user, 0.0), least)
                waiting = self._waiting[user] = []
            waiting.append(delivery)
        self.bytes += sum(sizes_of(deliveries))

    def next(self) -> list[Delivery]:
        """Take out all deliveries of the next user, and of those after it that fit into the turn; each in order."""
        users = iter(sorted(self._waiting, key=self._taken_seconds.__getitem__))
        turn = self._waiting.pop(next(users))
        size, is_compressed = sum(sizes_of(turn)), any(map(_encoding_of, turn))
        for user in users:
            waiting = self._waiting[user]
            size += sum(sizes_of(waiting))
            # A compressed body may cost a thousand times its bytes, so its user alone is charged.
            is_compressed = is_compressed or any(map(_encoding_of, waiting))
            if is_compressed or size > MAX_SHARED_BYTES or len(turn) + len(waiting) > MAX_SHARED:
                break
            turn += self._waiting.pop(user)
        self.bytes -= sum(sizes_of(turn))
        return turn

    def charge(self, run: Sequence[Delivery], users: Sequence[User], seconds: float) -> None:
        """Note the duration of a run of deliveries: each user has taken its part, by the size of its deliveries."""
        sizes = [size + _DELIVERY_BYTES for size in sizes_of(run)]
        rate = seconds / (sum(sizes) or 1)
        for user, size in zip(users, sizes, strict=True):
            self._taken_seconds[user] = self._taken_seconds.get(user, 0.0) + rate * size

    def take_all(self) -> list[Delivery]:
        """Take out all deliveries, in the order of arrival."""
        waiting = [delivery for deliveries in self._waiting.values() for delivery in deliveries]
        self._waiting, self._taken_seconds, self.bytes = {}, {}, 0
        return sorted(waiting, key=_tag_of)
