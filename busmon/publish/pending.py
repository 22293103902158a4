"""The gathered samples of each series that the publishing thread hasn't taken yet.

A call appends to its series' list; a fold puts one equal item in place of the list's front; a take copies the front,
then removes it. CPython does an append, a slice's assignment and a slice's removal each in one step that no thread,
signal or fork can split, and `Shared.lock` lets one thread at a time fold or take. So nothing is lost or counted twice,
and a caller never waits: it folds only if the lock is free.
"""

from bisect import bisect_right
from collections.abc import Sequence
from math import isfinite
from threading import Lock
from typing import Any, NamedTuple

FOLD_AT = 256
"""Items in a series' list before a caller folds them: some kilobytes a series, and 10 µs once in 256 calls."""

BYTES_PER_VALUE = 32
"""A float and its place in a list."""

MAX_EXACT = 2**53
"""Whole numbers below it are exact in a double."""


class Shared:
    """The common state of one `Telemetry`'s series.

    Attributes:
        max_values: raw observations that may be kept, over all series.
        resend_seconds: the age at which a gauge that nobody touched is sent again.
        lock: held by whoever folds or takes.
        values: raw observations that are known to be kept.
        discarded: calls whose samples will never be published and aren't reported yet.
        now: when the running take began, in seconds since the epoch.
    """

    __slots__ = ("discarded", "lock", "max_values", "now", "resend_seconds", "values")

    def __init__(self, max_values: int, resend_seconds: float) -> None:
        self.max_values = max_values
        self.resend_seconds = resend_seconds
        self.reset()

    def reset(self) -> None:
        """Begin without samples, as a forked child does."""
        self.unlock()
        self.values = self.discarded = 0
        self.now = 0.0

    def unlock(self) -> None:
        """Make another lock: in a forked child the old one may be held by a thread that doesn't exist there."""
        self.lock = Lock()


class Taken(NamedTuple):
    """The samples that a series hands over for publishing.

    Attributes:
        cell: the last cell of a row in the wire format's tables.
        at: a set gauge's event time, in seconds since the epoch.
    """

    cell: Any
    at: float | None = None


class Pending:
    """One series' list; its kinds differ in how items are folded and what they amount to.

    Attributes:
        items: appended to by any thread.
        fold_at: the length at which a caller folds.
    """

    __slots__ = ("fold_at", "items", "shared")

    def __init__(self, shared: Shared) -> None:
        self.items: list[Any] = []
        self.fold_at = FOLD_AT
        self.shared = shared

    def relieve(self) -> None:
        """Fold, unless another thread is at it; the next call will try again then."""
        lock = self.shared.lock
        if lock.acquire(blocking=False):
            try:
                if self.items:  # a take may have come first
                    self._fold()
            finally:
                lock.release()

    def take(self) -> Taken | None:
        """Remove and return what was gathered, None where there is nothing; for the holder of the lock."""
        items = self._draw()
        return self._amount(items) if items else None

    def reset(self) -> None:
        """Forget everything, in a forked child, since the parent publishes it."""
        self.items.clear()

    def _fold(self) -> None:
        raise NotImplementedError

    def _amount(self, items: list[Any]) -> Taken | None:
        raise NotImplementedError

    def _draw(self) -> list[Any]:
        items = self.items[:]
        del self.items[: len(items)]
        return items


class Sum(Pending):
    """Increments: a counter's, or those of a gauge that accumulates."""

    __slots__ = ()

    def _fold(self) -> None:
        length = len(self.items)
        self.items[:length] = (sum(self.items[:length]),)

    def _amount(self, items: list[Any]) -> Taken | None:
        total = sum(items)
        if isfinite(total):
            return Taken(_plain(total))
        self.shared.discarded += 1
        return None


Operation = tuple[float, float, bool]
"""A gauge's call: an amount, when, and whether the value becomes it or changes by it."""


class Held(Pending):
    """A gauge's value: taken when a call touched it, and again when it was last sent long ago."""

    __slots__ = ("at", "sent_at", "value")

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.value: float | None = None
        self.at = self.sent_at = 0.0

    def take(self) -> Taken | None:
        """Remove and return the value, if a call touched it or it is due again."""
        items = self._draw()
        if items:
            self._apply(_combine(items))
        elif not self._is_due():
            return None
        else:
            # The agent says now that it still is so: a reading of long ago would leave the scrape as stale.
            self.at = max(self.shared.now, self.at)
        self.sent_at = self.shared.now
        return None if self.value is None else Taken(self.value, self.at)

    def reset(self) -> None:
        """Forget everything, in a forked child."""
        super().reset()
        self.value = None
        self.at = self.sent_at = 0.0

    def _is_due(self) -> bool:
        return self.sent_at <= self.shared.now - self.shared.resend_seconds

    def _apply(self, operation: Operation) -> None:
        amount, at, is_set = operation
        value = amount if is_set else (self.value or 0.0) + amount
        # A sum may leave a double's range; what can't be sent isn't held either.
        self.value = _plain(value) if isfinite(value) else None
        # The fleet keeps the latest of a source's values, so a clock that steps back must not make this one old.
        self.at = max(at, self.at + 1e-6)

    def _fold(self) -> None:
        length = len(self.items)
        self.items[:length] = (_combine(self.items[:length]),)


class Lasting(Held):
    """The value of a gauge that outlives its source, taken when a call touched it.

    Never again: the fleet keeps it anyway, and a repetition would replace newer values of other processes.
    """

    __slots__ = ()

    def _is_due(self) -> bool:
        return False


def _combine(operations: Sequence[Operation]) -> Operation:
    total, latest, has_set = 0.0, 0.0, False
    for amount, at, is_set in operations:
        total = amount if is_set else total + amount
        latest = max(latest, at)
        has_set = has_set or is_set
    return total, latest, has_set


class Counted(NamedTuple):
    """Observations as counts by bucket, not cumulative, the last one +Inf's; and their sum."""

    counts: tuple[int, ...]
    sum: float


class Distribution(Pending):
    """Observations of a histogram whose bounds are known: as they are while few, else as counts.

    Where the fleet doesn't know the bounds yet, they are counts from the first on, since counts name their bounds.
    Where each observation stands for several, counts and sum are that many times what was observed.
    """

    __slots__ = ("_bounds", "_each_stands_for", "_few", "_keys")

    def __init__(self, shared: Shared, bounds: Sequence[float], *, are_agreed: bool, each_stands_for: int = 1) -> None:
        super().__init__(shared)
        self._bounds = tuple(bounds)
        self._keys = (*map(repr, self._bounds), "+Inf")
        self._each_stands_for = each_stands_for
        self._few = len(self._keys) if are_agreed and each_stands_for == 1 else 0

    def _fold(self) -> None:
        length = len(self.items)
        self.items[:length] = (self._count(self.items[:length]),)

    def _amount(self, items: list[Any]) -> Taken | None:
        if len(items) <= self._few and type(items[0]) is float:
            return Taken(items)
        counts, total = self._count(items)
        if self._each_stands_for > 1:
            counts, total = tuple(count * self._each_stands_for for count in counts), total * self._each_stands_for
        if isfinite(total):
            return Taken({"buckets": dict(zip(self._keys, counts, strict=True)), "sum": _plain(total)})
        self.shared.discarded += sum(counts)
        return None

    def _count(self, items: list[Any]) -> Counted:
        counts, total = items.pop(0) if type(items[0]) is Counted else ((0,) * len(self._keys), 0.0)
        items.sort()
        up_to = [*(bisect_right(items, bound) for bound in self._bounds), len(items)]
        fresh = (high - low for low, high in zip((0, *up_to), up_to, strict=False))
        return Counted(tuple(map(sum, zip(counts, fresh, strict=True))), total + sum(items))


class Counts(Pending):
    """Observations that came counted already."""

    __slots__ = ("_keys",)

    def __init__(self, shared: Shared, bounds: Sequence[float]) -> None:
        super().__init__(shared)
        self._keys = (*map(repr, bounds), "+Inf")

    def _fold(self) -> None:
        length = len(self.items)
        self.items[:length] = (_add(self.items[:length]),)

    def _amount(self, items: list[Any]) -> Taken | None:
        counts, total = _add(items)
        return Taken({"buckets": dict(zip(self._keys, counts, strict=True)), "sum": _plain(total)})


def _add(items: Sequence[Counted]) -> Counted:
    return Counted(tuple(map(sum, zip(*(item.counts for item in items), strict=True))), sum(item.sum for item in items))


class Values(Pending):
    """Observations that only the fleet can place: a summary's, or a histogram's whose bounds aren't known here.

    They can't be folded, so they are bounded by number: when all series together hold too many, the one that finds this
    out gives up the older half of its own.
    """

    __slots__ = ("_known",)

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._known = 0

    def reset(self) -> None:
        """Forget everything, in a forked child."""
        super().reset()
        self._know(0)

    def _fold(self) -> None:
        length = len(self.items)
        self.shared.values += length - self._known
        if self.shared.values > self.shared.max_values:
            given_up = length // 2
            del self.items[:given_up]
            self.shared.values -= given_up
            self.shared.discarded += given_up
            length -= given_up
        self._know(length)

    def _amount(self, items: list[Any]) -> Taken | None:
        self.shared.values -= self._known
        self._know(0)
        return Taken(items)

    def _know(self, length: int) -> None:
        self._known = length
        self.fold_at = length + FOLD_AT


class Discard(Pending):
    """Calls on series beyond the bound: only their number is kept."""

    __slots__ = ()

    def _fold(self) -> None:
        self.shared.discarded += len(self._draw())

    def _amount(self, items: list[Any]) -> Taken | None:
        self.shared.discarded += len(items)
        return None


def _plain(number: float) -> float:
    """Return a whole number without its `.0`: two bytes less in every row."""
    return int(number) if number.is_integer() and abs(number) < MAX_EXACT else number
