"""The fold: envelopes into the changes of one batch.

It checks each sample once, in the pass that counts it: a bad sample is rejected by reason and agent and leaves no
trace in its neighbours. Everything stays in memory until the shard commits; `rollback` forgets the batch. The result
is the same however envelopes are cut into batches. Pure but for freezing a new family, which the whole fleet must
see.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from math import inf, isfinite
from typing import Any, NamedTuple

from busmon.catalogue import naming
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, TYPES, Family
from busmon.errors import AdoptionError
from busmon.registry.columns import Column, Group, column_of
from busmon.registry.families import Families
from busmon.registry.numbers import LARGEST, is_number
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import is_time

MAX_LABEL_VALUE_CHARACTERS = 1024
_MAX_ROUTES = 10_000
_FEW_VALUES = 8


class RejectedError(Exception):
    """A sample that isn't counted; its argument is the reason, a constant word for a label value."""


class Origin(NamedTuple):
    """What all samples of an envelope share; `at` is their event time unless they say their own."""

    source: str
    agent: str
    at: float
    now: float


class Route(NamedTuple):
    """Where samples of one name, type, op and order of labels go.

    Attributes:
        order: where each of the family's labels stands in the sample; None when it is the same order.
        accumulates: a gauge's values are added, not set.
    """

    group: Group
    order: tuple[int, ...] | None
    accumulates: bool


class Fold:
    """The open batch of one shard."""

    def __init__(self, families: Families, columns: Mapping[str, Column]) -> None:
        self._families = families
        self._columns = columns
        self._groups: dict[str, Group] = {}
        self._routes: dict[tuple[Any, ...], Route | str] = {}
        self._folded: Counter[str] = Counter()
        self._rejected: Counter[tuple[str, str]] = Counter()

    def envelope(self, envelope: Envelope, now: float) -> None:
        """Fold every sample of an envelope that arrived at `now`, in seconds since the epoch."""
        at = min(envelope.ts, now) if envelope.ts else now
        origin = Origin(envelope.source, envelope.agent, at, now)
        for table in envelope.tables:
            try:
                self._table(table, origin)
            except RejectedError as rejected:
                self._reject(rejected, origin, len(table["rows"]) if _has_rows(table) else 1)
        for sample in envelope.samples:
            try:
                self._sample(sample, origin)
            except RejectedError as rejected:
                self._reject(rejected, origin, 1)

    def count(self, name: str, labelvalues: tuple[str, ...] = (), amount: float = 1) -> None:
        """Increment a counter of busmon's own."""
        group = self._own(name)
        group.column.increments[group.cell(labelvalues)] += amount

    def observe(self, name: str, labelvalues: tuple[str, ...], values: Sequence[float]) -> None:
        """Observe values in a histogram that busmon measures itself."""
        group = self._own(name)
        _observe(group, group.cell(labelvalues), values)

    def set(self, name: str, labelvalues: tuple[str, ...], value: float, at: float) -> None:
        """Set a gauge of busmon's own, which no source holds."""
        group = self._own(name)
        group.column.shares.set(group.cell(labelvalues), "", value, at)

    def seal(self) -> None:
        """Add what the fold counted of itself to the batch; to be called before the commit."""
        for type_, amount in self._folded.items():
            self.count("busmon_samples_folded_total", (type_,), amount)
        for labelvalues, amount in self._rejected.items():
            self.count("busmon_samples_rejected_total", labelvalues, amount)
        self._forget_counts()

    def rollback(self) -> None:
        """The open batch never happened."""
        for column in self._columns.values():
            column.rollback()
        self._forget_counts()

    def restore(self, family: Family, labelvalues: tuple[str, ...], cell: int) -> None:
        """Take over a series that stands in a value file from this cell on."""
        self._group(family).adopt(labelvalues, cell)

    def expose_at_zero(self, family: Family) -> None:
        """Make the series of a family whose label values are all known, so that their first increase is seen."""
        for labelvalues in family.bounded_series():
            self._group(family).cell(labelvalues)

    def reroute(self) -> None:
        """Resolve names again: the families have changed."""
        self._routes.clear()

    def series(self) -> dict[str, int]:
        """How many series each family has in this shard."""
        return {name: len(group.cells) for name, group in self._groups.items()}

    # -- one table, one sample ------------------------------------------------------------------------------------

    def _table(self, table: Any, origin: Origin) -> None:
        if not _has_rows(table):
            raise RejectedError("invalid_table")
        rows, labels = table["rows"], table.get("labels")
        if type(labels) is not list and labels is not None:
            raise RejectedError("invalid_label")
        route = self._route(table, tuple(labels or ()), (row[-1] for row in rows if _is_row(row)))
        at = _event_time(table, origin)
        if route.order is None and route.group.family.type == COUNTER:
            self._counter_rows(route, rows, at, origin)
        else:
            for row in rows:
                self._row(route, row, at, origin)

    def _counter_rows(self, route: Route, rows: list[Any], at: float, origin: Origin) -> None:
        """The common case, with no call per row: a known series' cell is found by its label values as they stand."""
        cells, increments = route.group.cells, route.group.column.increments
        odd = 0
        for row in rows:
            try:
                value = row[-1]
                if (type(value) is int or type(value) is float) and 0 <= value <= LARGEST:
                    increments[cells[tuple(row[:-1])]] += value
                    continue
            except (KeyError, TypeError, IndexError):
                pass
            odd += 1
            self._row(route, row, at, origin)
        self._folded[COUNTER] += len(rows) - odd

    def _row(self, route: Route, row: Any, at: float, origin: Origin) -> None:
        try:
            if not _is_row(row):
                raise RejectedError("invalid_row")
            self._value(route, tuple(row[:-1]), row[-1], at, origin)
        except RejectedError as rejected:
            self._reject(rejected, origin, 1)

    def _sample(self, sample: Any, origin: Origin) -> None:
        if type(sample) is not dict:
            raise RejectedError("invalid_sample")
        labels = sample.get("labels") or {}
        if type(labels) is not dict:
            raise RejectedError("invalid_label")
        value = _sample_value(sample)
        route = self._route(sample, tuple(labels), (value,))
        self._value(route, tuple(labels.values()), value, _event_time(sample, origin), origin)

    def _value(self, route: Route, labelvalues: tuple[Any, ...], value: Any, at: float, origin: Origin) -> None:
        group = route.group
        type_ = group.family.type
        change = _checked(group.family, value)
        if route.order is not None and len(labelvalues) == len(route.order):
            labelvalues = tuple([labelvalues[i] for i in route.order])
        cell = self._cell(group, labelvalues)
        if type_ == COUNTER:
            group.column.increments[cell] += change
        elif type_ != GAUGE:
            _observe(group, cell, change)
        elif route.accumulates:
            _add(group, cell, change, at)
        else:
            group.column.shares.set(cell, origin.source, change, at)
        self._folded[type_] += 1

    def _cell(self, group: Group, labelvalues: tuple[Any, ...]) -> int:
        try:
            return group.cells[labelvalues]
        except (KeyError, TypeError):
            if len(labelvalues) != len(group.family.labelnames):
                raise RejectedError("label_mismatch") from None
            if not all(type(value) is str and len(value) <= MAX_LABEL_VALUE_CHARACTERS for value in labelvalues):
                raise RejectedError("invalid_label") from None
            return group.cell(labelvalues)

    # -- names ----------------------------------------------------------------------------------------------------

    def _route(self, stated: Mapping[str, Any], labels: tuple[Any, ...], values: Iterable[Any]) -> Route:
        key = (stated.get("name"), stated.get("type"), stated.get("op"), labels)
        try:
            route = self._routes.get(key)
        except TypeError:
            raise RejectedError("invalid_sample") from None
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            route = self._routes[key] = self._resolved(*key, values)
        if isinstance(route, str):
            raise RejectedError(route)
        return route

    def _resolved(self, name: Any, type_: Any, op: Any, labels: tuple[Any, ...], values: Iterable[Any]) -> Route | str:
        """The route of samples that state this, or the reason for which they are rejected."""
        if not isinstance(name, str) or not all(isinstance(label, str) for label in labels):
            return "invalid_name" if not isinstance(name, str) else "invalid_label"
        if (type_ is not None and type_ not in TYPES) or op not in {None, "set", "add"}:
            return "invalid_type" if op in {None, "set", "add"} else "invalid_op"
        names = tuple(naming.EXPORTED_LABELS.get(label, label) for label in labels)
        try:
            family = self._families.get(name) or self._proposed(name, type_, op, names, values)
            if fault := _fault(family, type_, op, names):
                return fault
            group = self._group(self._families.freeze(family))
        except AdoptionError as error:
            return error.reason
        if fault := _fault(group.family, type_, op, names):
            return fault
        order = None if names == group.family.labelnames else tuple(names.index(n) for n in group.family.labelnames)
        return Route(group, order, group.family.merge == "add")

    def _proposed(
        self, name: str, type_: str | None, op: str | None, names: tuple[str, ...], values: Iterable[Any]
    ) -> Family:
        """A family for an unknown metric, by the first of its values that is fit to define it."""
        if type_ is None:
            raise AdoptionError("unknown_metric", f"{name!r} is in no catalogue and states no type")
        rejected: RejectedError | None = None
        for value in values:
            buckets = sorted(_bounds(value) - {inf}) if type_ == HISTOGRAM and isinstance(value, dict) else ()
            family = self._families.propose(name, type_, sorted(names), "add" if op == "add" else "latest", buckets)
            try:
                _checked(family, value)
            except RejectedError as error:
                rejected = error
                continue
            return family
        raise rejected or RejectedError("invalid_value")

    def _group(self, family: Family) -> Group:
        group = self._groups.get(family.name)
        if group is None:
            family = self._families.freeze(family)
            group = self._groups[family.name] = Group(family, self._columns[column_of(family)])
        return group

    def _own(self, name: str) -> Group:
        group = self._groups.get(name)
        if group is None:
            family = self._families.get(name)
            if family is None:
                raise LookupError(f"{name} is not in busmon's own catalogue")
            group = self._group(family)
        return group

    # -- counts of its own ----------------------------------------------------------------------------------------

    def _reject(self, rejected: RejectedError, origin: Origin, amount: int) -> None:
        self._rejected[str(rejected), origin.agent] += amount

    def _forget_counts(self) -> None:
        self._folded.clear()
        self._rejected.clear()


def _fault(family: Family, type_: str | None, op: str | None, names: tuple[str, ...]) -> str | None:
    if family.internal:
        return "reserved_name"
    if type_ is not None and type_ != family.type:
        return "type_mismatch"
    if family.type == GAUGE and (op or "set") != ("add" if family.merge == "add" else "set"):
        return "op_mismatch"
    if family.type != GAUGE and op is not None:
        return "op_mismatch"
    if len(names) != len(family.labelnames) or set(names) != set(family.labelnames):
        return "label_mismatch"
    return None


def _has_rows(table: Any) -> bool:
    return type(table) is dict and type(table.get("rows")) is list


def _is_row(row: Any) -> bool:
    return type(row) is list and len(row) > 0


def _event_time(stated: Mapping[str, Any], origin: Origin) -> float:
    ts = stated.get("ts")
    if ts is None:
        return origin.at
    if not is_time(ts):
        raise RejectedError("invalid_timestamp")
    return min(float(ts), origin.now)


def _sample_value(sample: Mapping[str, Any]) -> Any:
    """A sample's value in the form of a row's last cell: a number, a list, or an object of buckets and sum."""
    value, values, buckets = sample.get("value"), sample.get("values"), sample.get("buckets")
    if (value is not None) + (values is not None) + (buckets is not None) != 1:
        raise RejectedError("invalid_value")
    if value is not None:
        if type(value) is list or type(value) is dict:
            raise RejectedError("invalid_value")
        return value
    if values is not None:
        if type(values) is not list:
            raise RejectedError("invalid_value")
        return values
    return {"buckets": buckets, "sum": sample.get("sum")}


# -- values: checked first, then applied, so that a rejected sample has changed nothing ------------------------------


def _checked(family: Family, value: Any) -> Any:
    """What a value changes: a float, a list of observations, or an object of buckets.

    Raises:
        RejectedError: `invalid_value`, `non_finite`, `negative_increment` or `bucket_mismatch`.
    """
    type_ = family.type
    if type(value) is list and type_ not in {COUNTER, GAUGE}:
        return _checked_values(value)
    if type(value) is dict and type_ == HISTOGRAM:
        return _checked_buckets(family, value)
    if type(value) is not float and type(value) is not int:
        raise RejectedError("invalid_value")
    if not is_number(value):
        raise RejectedError("non_finite")
    if type_ == COUNTER and value < 0:
        raise RejectedError("negative_increment")
    return value if type_ in {COUNTER, GAUGE} else [value]


def _checked_values(values: list[Any]) -> list[float]:
    if not {*map(type, values)} <= {int, float}:
        raise RejectedError("invalid_value")
    if not all(map(is_number, values)) or not isfinite(sum(values)):
        raise RejectedError("non_finite")
    return values


def _checked_buckets(family: Family, value: dict[str, Any]) -> dict[str, Any]:
    buckets, total = value.get("buckets"), value.get("sum")
    if type(buckets) is not dict or type(total) not in {int, float}:
        raise RejectedError("invalid_value")
    if not all(type(count) is int and 0 <= count <= LARGEST for count in buckets.values()):
        raise RejectedError("invalid_value")
    if not is_number(total):
        raise RejectedError("non_finite")
    if not _bounds(value) >= set(family.buckets):
        raise RejectedError("bucket_mismatch")
    return value


def _bounds(value: Mapping[str, Any]) -> set[float]:
    buckets = value.get("buckets")
    try:
        return {float(bound) for bound in buckets} if type(buckets) is dict else set()
    except ValueError:
        raise RejectedError("invalid_value") from None


def _observe(group: Group, cell: int, change: Sequence[float] | Mapping[str, Any]) -> None:
    increments = group.column.increments
    if isinstance(change, Mapping):
        for bound, count in change["buckets"].items():
            increments[cell + bisect_left(group.family.buckets, float(bound))] += count
        increments[cell + group.sum] += change["sum"]
        return
    increments[cell + group.sum] += sum(change)
    if group.family.type != HISTOGRAM:
        increments[cell] += len(change)
    elif len(change) <= _FEW_VALUES:
        for value in change:
            increments[cell + bisect_left(group.family.buckets, value)] += 1
    else:
        _observe_many(group, cell, change)


def _observe_many(group: Group, cell: int, values: Sequence[float]) -> None:
    """One search per bound instead of one per value: 10 times cheaper for the latencies of a whole batch."""
    ordered = sorted(values)
    ends = [0, *(bisect_right(ordered, bound) for bound in group.family.buckets), len(ordered)]
    for offset, (start, end) in enumerate(pairwise(ends)):
        if end > start:
            group.column.increments[cell + offset] += end - start


def _add(group: Group, cell: int, change: float, at: float) -> None:
    column = group.column
    column.increments[cell] += change
    column.times[cell] = max(at, column.times.get(cell, 0.0))
