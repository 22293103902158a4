"""Cumulative streams of one shard: totals since a start, turned into what each point adds.

A stream is a source's series as its producer names it. Its last total is part of the commit that counts its growth,
so a kill at any instruction neither loses growth nor counts it twice. The rules, for a point with total `v` at `t`
since `start`:

- a stream that isn't known counts from its start: `v`; but 0 if it began before `horizon`, since the shard may have
  known it once and forgotten it, or another may know it. One that states no start begins when it is first heard.
- a later start than the known one is a restart: `v`. An earlier one is of a run that is over: rejected as stale.
- the same start, later: the growth. A total that fell is a restart that nobody stated: `v`. One without a time, or
  with one ahead of the fleet's clock, has that of its arrival. So where its body came before and may be counted, a
  total that fell is rejected as stale, and so is one that grew: it is of before a fall.
- the same start and not later: a repetition or out of order: rejected as stale.

Where nothing in a body tells its source from another of the same name, streams of different starts are kept apart: two
such sources then count side by side, and `confused` says that there are two.

What an open batch advances is kept apart until `commit`; `rollback` forgets it. Pure: the shard persists it.
"""

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from math import inf
from typing import Any, NamedTuple

import orjson

from busmon.bounded import BoundedCache
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.fold.points import point_time
from busmon.registry.ledger.bodies import USUAL
from busmon.sample_checks import LARGEST_COUNT, check_total
from busmon.wire.envelope import Observed, Point
from busmon.wire.times import is_time

MAX_STREAMS = 100_000
MAX_BUCKETS = 1000
"""Of one stream."""
MAX_SIZE = 2_000_000
"""Of all streams, as `_size` counts them: some 200 MB. What an open batch advances may have as much."""

_TOO_MANY_BUCKETS = f"a total has at most {MAX_BUCKETS} buckets"
_BARE_SIZE = 4
_MAX_CONFUSED = 100
_DIGEST_BYTES = 16


class TotalStream(NamedTuple):
    """The record of one stream.

    Attributes:
        start: when its total was 0, in its producer's seconds since the epoch; 0 where it doesn't say.
        at: when its last total was measured, by the same clock.
        heard_at: when that was folded.
        total: a number, or observations.
    """

    start: float
    at: float
    heard_at: float
    total: float | Observed


class Total(NamedTuple):
    """A point of a stream.

    Attributes:
        key: the stream's.
        stream: as it is with the point.
        stated_at: the point's own time, also ahead of the fleet's clock; infinite where it has none.
        times_counted: how often the bytes of the point's body were counted, if it may be one of these bodies.
    """

    key: str
    stream: TotalStream
    stated_at: float
    times_counted: int

    def may_be_before(self, known: TotalStream, *, is_more: bool) -> bool:
        """Return whether the point may be counted before the known one.

        The known one has the time of its arrival, so it seems earlier, where the point came without a time, or with one
        ahead of the fleet's clock. A point that is more was counted before a fall, unless its body's bytes come in each
        run of its producer.
        """
        if self.stated_at <= known.heard_at:
            return False
        return 0 < self.times_counted < (USUAL if is_more else inf)


class Streams:
    """One shard's streams.

    Attributes:
        horizon: streams that began no later may have been forgotten, or counted by another shard.
        confused: names that two live sources have, until somebody takes them.
        has_untimed: whether a total came without a time, or with one ahead of the fleet's clock.
    """

    def __init__(self) -> None:
        self.horizon = 0.0
        self._known: OrderedDict[str, TotalStream] = OrderedDict()  # the longest unheard first; see `Ledger`
        self._open: dict[str, TotalStream] = {}
        self._known_size = self._open_size = 0
        self.confused: set[str] = set()
        self.has_untimed = False
        self._latest: BoundedCache[str, tuple[float, float]] = BoundedCache(MAX_STREAMS)

    def total(
        self, source: str, point: Point, now: float, *, is_anonymous: bool = False, times_counted: int = 0
    ) -> Total:
        """Return a checked point as its stream has it.

        Args:
            source: the name of the point's source.
            point: the point.
            now: when the point arrived, in seconds since the epoch.
            is_anonymous: another source may have the same name.
            times_counted: how often the bytes of the point's body were counted, if it may be one of these bodies.

        Raises:
            RejectedError: `invalid_value`, `non_finite`, `negative_increment`, `bucket_mismatch` or
                `invalid_timestamp`.
        """
        value = check_total(point.value)
        if isinstance(value, Observed) and len(value.buckets) > MAX_BUCKETS:
            raise RejectedError(SampleReason.BUCKET_MISMATCH, _TOO_MANY_BUCKETS)
        value = replace(value, sum=_storable(value.sum)) if isinstance(value, Observed) else _storable(value)
        start = 0.0 if point.start is None else _start(point.start)
        stream = TotalStream(start, point_time(point, now, now), now, value)
        stated_at = inf if point.at is None else point.at
        self.has_untimed = self.has_untimed or stated_at > now
        if not is_anonymous or not start:
            return Total(_key(source, point), stream, stated_at, times_counted)
        self._compare_starts(source, point, stream)
        return Total(_key(source, point, start), stream, stated_at, times_counted)

    def _compare_starts(self, source: str, point: Point, stream: TotalStream) -> None:
        """Note a source that goes on after another of its name has started: a run that is over says nothing more."""
        key = _key(source, point)
        start, at = self._latest.entries.get(key, (0.0, 0.0))
        if stream.start < start and stream.at > at:
            if len(self.confused) < _MAX_CONFUSED:
                self.confused.add(source)
        elif stream.start >= start:
            self._latest.keep(key, (stream.start, stream.at))

    def growth(self, total: Total) -> float | Observed:
        """Return what the point adds to what its stream has counted.

        Raises:
            RejectedError: `stale_total`: the stream has a later one; or `stream_budget`: the open batch has as many
                streams as there is memory for.
        """
        if self._open_size >= MAX_SIZE and total.key not in self._open:
            raise RejectedError(
                SampleReason.STREAM_BUDGET, "the batch has totals of as many streams as memory is meant for"
            )
        start, at, _, value = total.stream
        known = self._open.get(total.key) or self._known.get(total.key)
        if known is None:
            return _nothing(value) if 0 < start <= self.horizon else value
        if start > known.start:
            return value
        is_late = start < known.start or at <= known.at
        grown = None if is_late else _difference(value, known.total)
        if is_late or total.may_be_before(known, is_more=grown is not None):
            raise RejectedError(
                SampleReason.STALE_TOTAL, "a total that is as late, or of a later start, is counted already"
            )
        return value if grown is None else grown

    def advance(self, total: Total) -> None:
        """Take the point's growth into the open batch."""
        self._open_size += _size(total.stream) - _size(self._open.get(total.key))
        self._open[total.key] = total.stream

    def raise_horizon(self, at: float) -> None:
        """Take streams that began no later than this for streams that may be counted already."""
        self.horizon = max(self.horizon, at)

    def take_confused(self) -> set[str]:
        """Return the names that two live sources have, and forget them."""
        confused, self.confused = self.confused, set()
        return confused

    def take_untimed(self) -> bool:
        """Return whether a total came without a time since the last call, or with one ahead of the fleet's clock."""
        has_untimed, self.has_untimed = self.has_untimed, False
        return has_untimed

    def commit(self) -> None:
        """Count for good what the open batch advanced."""
        for key, stream in self._open.items():
            self._known_size += _size(stream) - _size(self._known.get(key))
            self._known[key] = stream
            self._known.move_to_end(key)
        self.rollback()
        while len(self._known) > MAX_STREAMS or self._known_size > MAX_SIZE:
            self._let_go(self._known.popitem(last=False)[1])

    def move(self, seconds: float, now: float) -> bool:
        """Move the times when streams were heard, but to none later than now: the clock was set.

        Returns:
            Whether a time changed.
        """
        is_changed = self.horizon > now
        self.horizon = min(self.horizon, now)
        for streams in (self._known, self._open):
            for key, stream in streams.items():
                if (at := min(stream.heard_at + seconds, now)) != stream.heard_at:
                    streams[key] = stream._replace(heard_at=at)
                    is_changed = True
        return is_changed

    def rollback(self) -> None:
        """Forget the open batch."""
        self._open, self._open_size = {}, 0

    def forget(self, before: float) -> None:
        """Drop the streams silent since `before`."""
        silent = []
        for key, stream in self._known.items():
            if stream.heard_at >= before:
                break
            silent.append(key)
        for key in silent:
            self._let_go(self._known.pop(key))

    def dump(self, *, whole: bool) -> dict[str, Any]:
        """Return the open changes, or all, as JSON-ready values for the journal."""
        streams = self._known if whole else self._open
        return {"horizon": self.horizon, "known": {key: _dump(stream) for key, stream in streams.items()}}

    def load(self, dumped: Mapping[str, Any]) -> None:
        """Take over what `dump` made, on top of what is known."""
        self.raise_horizon(dumped["horizon"])
        self._open = {key: _load(fields) for key, fields in dumped["known"].items()}
        self.commit()

    def _let_go(self, stream: TotalStream) -> None:
        self._known_size -= _size(stream)
        self.raise_horizon(stream.at)


def _start(stated: float) -> float:
    """Return a start by its producer's clock: were a later one taken for now, each point would begin a run of its own.

    Raises:
        RejectedError: `invalid_timestamp`.
    """
    if not is_time(stated):
        raise RejectedError(SampleReason.INVALID_TIMESTAMP, "the start is seconds since the epoch, more than 0")
    return stated


def _size(stream: TotalStream | None) -> int:
    """Return what it takes of `MAX_SIZE`."""
    if stream is None:
        return 0
    return _BARE_SIZE + (len(stream.total.buckets) if isinstance(stream.total, Observed) else 0)


def _key(source: str, point: Point, *start: float) -> str:
    stated = orjson.dumps([source, point.name, sorted(point.labels.items()), *start])
    return blake2b(stated, digest_size=_DIGEST_BYTES).hexdigest()


def _storable(value: float) -> float:
    """Return the number, as a float where the journal's JSON has no such integer."""
    return value if -LARGEST_COUNT <= value <= LARGEST_COUNT else float(value)


def _nothing(value: float | Observed) -> float | Observed:
    """Return the growth of a stream that is only taken note of."""
    return Observed(0, 0.0, dict.fromkeys(value.buckets, 0), value.is_exact) if isinstance(value, Observed) else 0


def _difference(value: float | Observed, known: float | Observed) -> float | Observed | None:
    """Return what a total grew by; None where it fell, or is of another kind."""
    if isinstance(value, Observed) and isinstance(known, Observed):
        return _more_observed(value, known)
    if isinstance(value, Observed) or isinstance(known, Observed) or value < known:
        return None
    return value - known


def _more_observed(value: Observed, known: Observed) -> Observed | None:
    """Return the observations since; None where they fell.

    Bounds that became coarser, as an exponential histogram's, take in finer ones.
    """
    bounds = list(value.buckets)
    before = [0.0] * (len(bounds) + 1)
    for bound, count in known.buckets.items():
        before[bisect_left(bounds, bound)] += count
    grown = {bound: count - less for (bound, count), less in zip(value.buckets.items(), before, strict=False)}
    count = value.count - known.count
    if count < 0 or any(more < 0 for more in grown.values()) or sum(grown.values()) > count:
        return None
    return Observed(count, value.sum - known.sum, grown, value.is_exact)


def _dump(stream: TotalStream) -> Sequence[Any]:
    start, at, heard_at, total = stream
    if isinstance(total, Observed):
        return start, at, heard_at, (total.count, total.sum, list(total.buckets), list(total.buckets.values()))
    return start, at, heard_at, total


def _load(fields: Sequence[Any]) -> TotalStream:
    start, at, heard_at, total = fields
    if isinstance(total, list):
        count, sum_, bounds, counts = total
        total = Observed(count, sum_, dict(zip(bounds, counts, strict=True)))
    return TotalStream(start, at, heard_at, total)
