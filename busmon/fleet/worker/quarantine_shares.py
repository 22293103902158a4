"""The users' shares of the quarantine, in one shard: nobody's invalid bodies push out those of all others.

The quarantine drops its oldest body when it is full, so who sends most would decide which bodies it has. Each user may
fill a quarter of it at once, and as much again in six hours, divided among the shards. The shares are in memory: they
are whole again after a restart of the worker. A body is charged when it is refused, and for good once it is in
quarantine: a body that is redelivered before that is charged once. Pure but for the clock; one thread.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

from busmon.bus.topology.topology import Topology

SHARE = 0.25
"""The part of the quarantine that a user's bodies may fill at once."""

REFILL_SECONDS = 6 * 3600.0
"""The time in which a spent share is whole again."""

LEAST_BODIES = 20
"""The bodies of a user and a shard that are kept at once, however small the quarantine is."""

MAX_USERS = 1000
"""The users with an account; the rest share one. RabbitMQ has checked the names, so only an operator adds to them."""

_OTHERS = ""
_ROUNDED = 1 - 1e-6
"""The part of a body's cost that suffices, since thousands of differences leave a rounding error."""


@dataclass(slots=True)
class _Account:
    """The rest of a share, as a part of the quarantine; less than 0 after a body that was larger."""

    left: float
    at: float


class _Charge(NamedTuple):
    """The cost of a body that isn't in quarantine yet, and the account that it was taken from."""

    account: _Account
    cost: float


class QuarantineShares:
    """The accounts of the users in one shard.

    Args:
        places: the quarantine's most bodies; None without a limit.
        size_bytes: the most bytes of its bodies; None without a limit.
        shards: those that fill the quarantine.
        clock: the monotonic one.
    """

    def __init__(
        self,
        places: int | None,
        size_bytes: int | None,
        shards: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of_body = 0.0 if places is None else 1 / max(1, places)
        self._of_byte = 0.0 if size_bytes is None else 1 / max(1, size_bytes)
        self._whole = max(SHARE / shards, LEAST_BODIES * self._of_body)
        self._clock = clock
        self._accounts: dict[str | None, _Account] = {}
        self._charges: dict[int, _Charge] = {}

    @classmethod
    def of(cls, topology: Topology) -> Self:
        """Return the shares of a shard in the quarantine that the topology declares."""
        limits = topology.quarantine_limits
        return cls(limits.bodies, limits.size_bytes, topology.shards)

    def take(self, tag: int, user: str | None, size: int) -> bool:
        """Take the room for a body from the user's share; return False if the share is spent.

        Args:
            tag: the delivery's.
            user: that published the body; None if none was stated.
            size: of the body, in bytes.
        """
        account, cost = self._account(user), self._cost(size)
        if account.left < min(cost, self._whole) * _ROUNDED:
            return False
        account.left -= cost
        self._charges[tag] = _Charge(account, cost)
        return True

    def settle(self, tag: int) -> None:
        """Charge a delivery for good: the quarantine has its body."""
        self._charges.pop(tag, None)

    def give_back(self, tags: Iterable[int]) -> None:
        """Give back the room of these deliveries that isn't charged for good: their batch was rolled back."""
        for charge in [self._charges.pop(tag) for tag in tags if tag in self._charges]:
            charge.account.left += charge.cost

    def void(self) -> None:
        """Give back all room that isn't charged for good: the broker redelivers the deliveries."""
        self.give_back([*self._charges])

    def _cost(self, size: int) -> float:
        return max(self._of_body, size * self._of_byte)

    def _account(self, user: str | None) -> _Account:
        now = self._clock()
        if user not in self._accounts and len(self._accounts) >= MAX_USERS:
            self._forget(now)
        if user not in self._accounts and len(self._accounts) >= MAX_USERS:
            user = _OTHERS
        account = self._accounts.setdefault(user, _Account(self._whole, now))
        account.left, account.at = self._refill(account, now), now
        return account

    def _refill(self, account: _Account, now: float) -> float:
        return min(self._whole, account.left + (now - account.at) * self._whole / REFILL_SECONDS)

    def _forget(self, now: float) -> None:
        """Forget the accounts whose share is whole again."""
        self._accounts = {
            user: account for user, account in self._accounts.items() if self._refill(account, now) < self._whole
        }
