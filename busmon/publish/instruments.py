"""Counter, gauge, histogram and summary, with prometheus_client's method names and argument order.

An instrument with label names gives one child a series by `labels()`; keep the child where speed counts. A call appends
to its series' pending items and returns: it never waits, touches no network, and raises only for a mistake in the
program. Any thread, signal handlers included.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import inf
from random import random
from time import time
from typing import Any, NoReturn, Self

from busmon.publish.batch import Table
from busmon.publish.forks import here, notice
from busmon.publish.pending import Counted, Pending, Shared
from busmon.publish.series import Series
from busmon.publish.timing import ExceptionCounter, InprogressTracker, Timer

MAX_LABEL_VALUE_CHARACTERS = 1024
"""What the fleet accepts; a longer value is cut, since a label often comes from outside of the program."""


class Instrument:
    """The common part of the four instruments.

    Args:
        table: its name, label names and domain.
        documentation: for readers of the code; a scrape's help is the catalogue's.
        series: where its series are added.
        make: makes a series' pending items.
        labelvalues: of this one series; None for all that `labels` gives.
    """

    __slots__ = ("_children", "_make", "_pending", "_series", "_table", "documentation")

    def __init__(
        self,
        table: Table,
        documentation: str,
        series: Series,
        make: Callable[[Shared], Pending],
        labelvalues: tuple[str, ...] | None = None,
    ) -> None:
        self.documentation = documentation
        self._table = table
        self._series = series
        self._make = make
        self._children: dict[tuple[object, ...], Self] = {}
        self._pending = None if labelvalues is None else self._pending_of(labelvalues)

    @property
    def name(self) -> str:
        """The metric's name, as it is published."""
        return self._table.name

    def labels(self, *values: object, **named: object) -> Self:
        """Return the series with these label values, given in the order of the label names or by name.

        Raises:
            ValueError: they aren't exactly this instrument's labels.
        """
        if not named:
            try:
                return self._children[values]
            except (KeyError, TypeError):
                pass  # a new series, or values that aren't strings yet
        key = self._key(values, named)
        return self._children.get(key) or self._child(key)

    def remove(self, *labelvalues: object) -> None:
        """Let a series' place go to another: what it gathered is still published, a gauge is sent no more.

        The fleet keeps a counter's total. A caller that holds the series must call `labels()` again.

        Raises:
            ValueError: they aren't exactly this instrument's labels.
        """
        child = self._children.pop(self._key(labelvalues, {}), None)
        if child is not None and child._pending is not None:  # noqa: SLF001 - a child is of this very class
            self._series.remove(child, child._pending)  # noqa: SLF001 - as above

    def clear(self) -> None:
        """Remove all series that `labels` gave."""
        for labelvalues in tuple(self._children):
            self.remove(*labelvalues)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._table.name}>"

    def _record(self, item: Any) -> None:
        if not here[0]:
            notice()
        pending = self._pending or self._without_labels()
        pending.items.append(item)
        if len(pending.items) > pending.fold_at:
            pending.relieve()

    def _without_labels(self) -> NoReturn:
        raise ValueError(f"{self.name}: give its labels first: {', '.join(self._table.labelnames)}")

    def _pending_of(self, labelvalues: tuple[str, ...]) -> Pending:
        if not self._series.has_room():
            return self._series.beyond
        pending = self._make(self._series.shared)
        self._series.add(self._table, labelvalues, pending)
        return pending

    def _key(self, values: tuple[object, ...], named: dict[str, object]) -> tuple[str, ...]:
        labelnames = self._table.labelnames
        if self._pending is not None:
            raise ValueError(f"{self.name}: has no label names, or its labels are given already")
        if values and named:
            raise ValueError(f"{self.name}: give label values in order or by name, not both")
        if named:
            values = tuple(named.pop(labelname) for labelname in labelnames if labelname in named)
        if named or len(values) != len(labelnames):
            raise ValueError(f"{self.name}: its labels are {', '.join(labelnames)}")
        return tuple(map(_text, values))

    def _child(self, key: tuple[str, ...]) -> Self:
        child = type(self)(self._table, self.documentation, self._series, self._make, key)
        if child._pending is self._series.beyond:  # noqa: SLF001 - a child is of this very class
            return child  # not kept: there are too many
        # Of two threads that bind one series at once, both go on with the child that came first.
        return self._children.setdefault(key, child)


def _text(value: object) -> str:
    """Return a label value as published: UTF-8 has no lone surrogates."""
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode()
    return text[:MAX_LABEL_VALUE_CHARACTERS]


class Counter(Instrument):
    """A count that only grows."""

    __slots__ = ()

    def inc(self, amount: float = 1) -> None:
        """Add a finite amount of at least 0.

        Raises:
            ValueError: the amount is negative or not finite.
        """
        if not 0 <= amount < inf:
            raise ValueError(f"{self.name}: a counter grows by a finite amount of at least 0, not by {amount!r}")
        self._record(float(amount))

    def count_exceptions(
        self, exception: type[BaseException] | tuple[type[BaseException], ...] = Exception
    ) -> ExceptionCounter:
        """Count the exceptions of these types that leave a block or a function."""
        return ExceptionCounter(self.inc, exception)


class Gauge(Instrument):
    """A value that goes up and down; this process's, which the fleet merges with those of others."""

    __slots__ = ()

    def set(self, value: float) -> None:
        """Set the value, as of now.

        Raises:
            ValueError: it isn't finite, or this gauge accumulates what is added to it.
        """
        self._operate(value, is_set=True)

    def inc(self, amount: float = 1) -> None:
        """Add to the value, which is 0 before the first call.

        Raises:
            ValueError: the amount isn't finite.
        """
        self._operate(amount, is_set=False)

    def dec(self, amount: float = 1) -> None:
        """Take from the value.

        Raises:
            ValueError: the amount isn't finite.
        """
        self._operate(-amount, is_set=False)

    def set_to_current_time(self) -> None:
        """Set the value to the seconds since the epoch."""
        self.set(time())

    def set_function(self, function: Callable[[], float]) -> None:
        """Set the value to what the function returns, at each publish, on the publishing thread.

        When the function fails, the value stays as it was, and the failure is logged once.
        """
        notice()
        if self._pending is None:
            self._without_labels()
        self._series.read_before_take(self, self.set, function)

    def time(self) -> Timer["Gauge"]:
        """Set the value to how long a block or a function ran, in seconds."""
        return Timer(self, Gauge.set)

    def track_inprogress(self) -> InprogressTracker:
        """Add 1 while a block or a function runs."""
        return InprogressTracker(self.inc, self.dec)

    def _operate(self, amount: float, *, is_set: bool) -> None:
        if not -inf < amount < inf:
            raise ValueError(f"{self.name}: a gauge takes a finite number, not {amount!r}")
        self._record((float(amount), time(), is_set))


class AccumulatingGauge(Gauge):
    """A gauge whose family merges by `add`: it is the sum of all that was ever added to it, by any process."""

    __slots__ = ()

    def _operate(self, amount: float, *, is_set: bool) -> None:
        if is_set:
            raise ValueError(f"{self.name}: its family merges by 'add', so it takes inc() and dec() only")
        if not -inf < amount < inf:
            raise ValueError(f"{self.name}: a gauge takes a finite number, not {amount!r}")
        self._record(float(amount))


class _Observing(Instrument):
    __slots__ = ()

    def observe(self, amount: float) -> None:
        """Observe a finite amount.

        Raises:
            ValueError: it isn't finite.
        """
        if not -inf < amount < inf:
            raise ValueError(f"{self.name}: an observation is a finite number, not {amount!r}")
        self._record(float(amount))

    def time(self) -> Timer[Self]:
        """Observe how long a block or a function ran, in seconds."""
        return Timer(self, type(self).observe)


class Histogram(_Observing):
    """Observations, counted by bucket."""

    __slots__ = ()


@lru_cache(maxsize=64)
def make_sampled_histogram(one_in: int) -> type[Histogram]:
    """Make a class of histograms that sample one of so many observations at random."""
    if one_in == 1:
        return Histogram

    class SampledHistogram(Histogram):
        __slots__ = ()

        def observe(self, amount: float) -> None:
            if random() * one_in < 1:  # noqa: S311 - a sample, not a secret
                super().observe(amount)

    return SampledHistogram


class CountedHistogram(Instrument):
    """Observations that are counted by bucket before they come here."""

    __slots__ = ()

    def add(self, counts: Sequence[int], sum_: float) -> None:
        """Add counts by bucket, not cumulative, the last one +Inf's; and the sum of the observations.

        Raises:
            ValueError: a count is negative, or the sum isn't finite.
        """
        if min(counts) < 0 or not -inf < sum_ < inf:
            raise ValueError(f"{self.name}: counts are at least 0, and their sum is finite")
        self._record(Counted(tuple(counts), float(sum_)))


class Summary(_Observing):
    """Observations, of which the fleet exposes the number, the sum and the catalogue's quantiles."""

    __slots__ = ()
