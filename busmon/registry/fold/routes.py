"""The routes of samples, by what each states: name, type, op, whether it outlives its source, order of labels.

Each statement is resolved once and kept, well-formed ones that are refused too, until the fleet's families change.
Resolving one may freeze a family or take up an unknown metric, which the whole fleet sees; all else is in memory. One
thread.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from busmon.bounded import BoundedCache
from busmon.catalogue import naming
from busmon.catalogue.family import GAUGE, TYPES, Family
from busmon.errors import MAX_DETAIL_CHARACTERS, AdoptionError, RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.families import Families
from busmon.registry.admission.principal import Sender, nobody
from busmon.registry.series.columns import Column, SeriesGroup, column_of
from busmon.sample_checks import MAX_ADOPTED_VALUE_CHARACTERS, check_value, label_texts, read_buckets, value_of
from busmon.wire.members import word


class Statement(NamedTuple):
    """The members of a sample or table that define its metric; the fleet's family must agree, or is made by them."""

    name: Any
    type: Any
    op: Any
    outlives_source: bool


Candidate = tuple[Sequence[Any], Any]
"""Label values and a value, both unchecked."""
Candidates = Callable[[Mapping[str, Any]], Iterator[Candidate]]

_MAX_ROUTES = 10_000
_OPS = frozenset({None, "set", "add"})


class Fault(NamedTuple):
    """The reason for which samples of one statement are rejected, and the detail for a person."""

    reason: SampleReason
    detail: str


class Route(NamedTuple):
    """The destination of samples of one statement.

    Attributes:
        order: the position in the sample of each label of the family; None when the order is the same.
        width: how many labels the sample has.
        forbidden: those of them that are left out because no family should have them.
        accumulates: a gauge's values are added, not set.
        is_usual: the shortcuts know what to do with it.
    """

    group: SeriesGroup
    type: str
    order: tuple[int, ...] | None
    width: int
    forbidden: tuple[str, ...]
    accumulates: bool
    is_usual: bool


SampleWay = tuple[Mapping[tuple[str, ...], int], Column, str, tuple[float, ...], int]
"""What a plain sample needs of its route: cells, column, type, bounds and where the sum stands. A bare tuple, since a
named one takes twice as long to unpack."""

Shortcut = Callable[[SeriesGroup, list[Any], str, float], list[Any]]
"""Folds rows that a source said at some time into a family's series, and gives back those that it didn't fold."""

TableWay = tuple[list[str], Shortcut, SeriesGroup, str]
"""What a plain table needs of its route: its labels, what folds its rows, into which series, and their type."""


class Routes:
    """The families' groups in one shard, and the ways to them.

    Attributes:
        groups: by family.
        ways: of plain samples, by name and label names; the fold's short cut.
        table_ways: of plain tables, by name; the last one's labels are in them.
    """

    def __init__(
        self, families: Families, columns: Mapping[str, Column], budgets: Budgets, sender: Sender = nobody
    ) -> None:
        self._sender = sender
        self.groups: dict[str, SeriesGroup] = {}
        self._forbidden = budgets.forbidden_labels
        self._families = families
        self._columns = columns
        self.ways: BoundedCache[tuple[Any, ...], SampleWay] = BoundedCache(_MAX_ROUTES)
        self.table_ways: BoundedCache[str, TableWay] = BoundedCache(_MAX_ROUTES)
        self._routes: BoundedCache[tuple[Any, ...], Route | Fault] = BoundedCache(_MAX_ROUTES)

    def find(self, stated: Mapping[str, Any], labels: tuple[Any, ...], candidates: Candidates) -> Route:
        """Return the route of a sample or table.

        Args:
            stated: the sample or table itself.
            labels: the names of its labels, in its order.
            candidates: what is in it; the first good one defines a metric that nobody knows.

        Raises:
            RejectedError: there is none.
        """
        key: tuple[Any, ...] = (stated.get("name"), word(stated.get("type")), word(stated.get("op")), labels)
        if "outlives_source" in stated:
            key = (*key, _flag(stated["outlives_source"]))
        try:
            route = self._routes.entries.get(key)
        except TypeError:
            raise RejectedError(SampleReason.INVALID_SAMPLE, "'name', 'type', 'op' and the labels are texts") from None
        if route is None:
            route = self._find_or_resolve(key, lambda: self._resolve(_statement(key), labels, candidates(stated)))
        if isinstance(route, Fault):
            raise RejectedError(*route)
        return route

    def _find_or_resolve(self, key: tuple[Any, ...], resolved: Callable[[], Route | Fault]) -> Route | Fault:
        """Resolve a statement, and keep the outcome; a spent share is its principal's alone."""
        sender = self._sender()
        route = self._routes.entries.get((key, sender))
        if route is None:
            route = resolved()
            is_share = isinstance(route, Fault) and route.reason == SampleReason.FAMILY_BUDGET
            self._routes.keep((key, sender) if is_share else key, route)
        return route

    def group(self, family: Family) -> SeriesGroup:
        """Return the family's series in this shard; the family is frozen if it wasn't.

        Raises:
            AdoptionError: it can't be, since another occupies its name.
        """
        group = self.groups.get(family.name)
        if group is None:
            family = self._families.freeze(family, self._sender())
            group = self.groups[family.name] = SeriesGroup(family, self._columns[column_of(family)])
        return group

    def own(self, name: str) -> SeriesGroup:
        """Return the series of a family that busmon itself measures."""
        group = self.groups.get(name)
        if group is None:
            family = self._families.get(name)
            if family is None:
                raise LookupError(f"{name} is not in the built-in catalogue")
            group = self.group(family)
        return group

    def limit(self, budgets: Budgets) -> None:
        """Apply other budgets from here on."""
        self._forbidden = budgets.forbidden_labels
        self.forget()

    def forget(self) -> None:
        """Resolve every statement again: the families have changed. One without series may have another meaning."""
        self.groups = {name: group for name, group in self.groups.items() if group.cells}
        self._routes.clear()
        self.ways.clear()
        self.table_ways.clear()

    def _resolve(self, statement: Statement, labels: tuple[Any, ...], candidates: Iterator[Candidate]) -> Route | Fault:
        """Resolve a statement to a route, or to the fault for which its samples are rejected."""
        if fault := _find_malformation(statement, labels):
            raise RejectedError(*fault)  # not kept: it may be as large as a body
        statement = statement._replace(name=naming.export_name(statement.name))
        names = tuple(naming.EXPORTED_LABELS.get(label, label) for label in labels)
        known = self._families.get(statement.name)
        if known is not None and (fault := self._find_refused(known)):
            return fault
        forbidden = tuple(label for label in names if label in self._forbidden - _labels_of(known))
        kept = [i for i, label in enumerate(names) if label not in forbidden and not self._is_aggregated(known, label)]
        names_kept = tuple(names[i] for i in kept)
        try:
            kept_candidates = ((_pick(labelvalues, kept), value) for labelvalues, value in candidates)
            family = known or self._propose(statement, names_kept, kept_candidates)
            if fault := _mismatch(family, statement, names_kept):
                return fault
            group = self.group(family)
        except AdoptionError as error:
            return Fault(SampleReason(error.reason), error.detail)
        if fault := _mismatch(group.family, statement, names_kept):
            return fault
        order = None if names == group.family.labelnames else tuple(map(names.index, group.family.labelnames))
        accumulates = group.family.merge == "add"
        is_usual = order is None and not accumulates and not group.family.outlives_source
        return Route(group, group.family.type, order, len(names), forbidden, accumulates, is_usual)

    def _find_refused(self, family: Family) -> Fault | None:
        """Find why a metric isn't counted that an earlier version took up: none is taken up by this name any more."""
        if self._families.restate(family) is not family or not self._families.is_adopted(family.name):
            return None
        reason, fault = SampleReason.RESERVED_NAME, naming.adoption_fault(family.name, family.exposed)
        if fault is None:
            reason, fault = SampleReason.INVALID_NAME, naming.metric_name_fault(family.name)
        if fault is None:
            return None
        return Fault(reason, f"{fault}; `busmon registry drop` removes the series that there are")

    def _is_aggregated(self, family: Family | None, label: str) -> bool:
        """Return whether the catalogue has the label added up over, unless the family was written with it."""
        if family is None or label in family.labelnames:
            return False
        return label in self._families.restate(family).aggregate_away

    def _propose(self, statement: Statement, names: tuple[str, ...], candidates: Iterator[Candidate]) -> Family:
        """Propose a family for an unknown metric, by the first of its samples that will be folded."""
        name, type_, op, outlives_source = statement
        if type_ is None:
            raise AdoptionError(SampleReason.UNKNOWN_METRIC, "no catalogue names the metric, and it states no type")
        self._families.require_share(name, self._sender())  # at once, as a body may name thousands of metrics
        rejected = RejectedError(SampleReason.INVALID_VALUE, "it has no row")
        for labelvalues, value in candidates:
            try:
                label_texts(names, labelvalues, MAX_ADOPTED_VALUE_CHARACTERS)
                buckets = read_buckets(type_, value)
                merge = "add" if type_ == GAUGE and op == "add" else "latest"
                family = self._families.propose(
                    name, type_, sorted(names), merge, buckets, outlives_source=outlives_source
                )
                check_value(family, value)
            except RejectedError as error:
                rejected = error
            else:
                return family
        raise rejected


def _flag(outlives_source: Any) -> bool:
    if outlives_source is not None and type(outlives_source) is not bool:
        raise RejectedError(SampleReason.INVALID_OUTLIVES_SOURCE, "'outlives_source' is true or false")
    return outlives_source is True


def _statement(key: tuple[Any, ...]) -> Statement:
    name, type_, op, _, *stays = key
    return Statement(name, type_, op, bool(stays and stays[0]))


def of_sample(sample: Mapping[str, Any]) -> Iterator[Candidate]:
    """Yield a sample's label values and value."""
    yield tuple((sample.get("labels") or {}).values()), value_of(sample)


def of_table(table: Mapping[str, Any]) -> Iterator[Candidate]:
    """Yield the label values and the value of each row of a table."""
    yield from ((row[:-1], row[-1]) for row in table["rows"] if type(row) is list and row)


def _labels_of(family: Family | None) -> frozenset[str]:
    return frozenset(family.labelnames) if family else frozenset()


def _pick(labelvalues: Sequence[Any], kept: Sequence[int]) -> Sequence[Any]:
    """Return the values of the labels that are kept; none where there are too few, which no family's labels match."""
    return [labelvalues[i] for i in kept] if not kept or kept[-1] < len(labelvalues) else []


_INVALID_NAME = Fault(
    SampleReason.INVALID_NAME, f"the name is a text of at most {naming.MAX_NAME_CHARACTERS} characters"
)
_INVALID_LABEL = Fault(
    SampleReason.INVALID_LABEL,
    f"labels are at most {naming.MAX_LABELS} different names of at most {naming.MAX_NAME_CHARACTERS} characters",
)


def _find_malformation(statement: Statement, labels: tuple[Any, ...]) -> Fault | None:
    name, type_, op, _ = statement
    if type(name) is not str or len(name) > naming.MAX_NAME_CHARACTERS:
        return _INVALID_NAME
    if len(labels) > naming.MAX_LABELS or not all(type(label) is str for label in labels):
        return _INVALID_LABEL
    if len({*labels}) < len(labels) or any(len(label) > naming.MAX_NAME_CHARACTERS for label in labels):
        return _INVALID_LABEL
    if type_ is not None and type_ not in TYPES:
        return Fault(SampleReason.INVALID_TYPE, f"the type is one of {', '.join(TYPES)}")
    return None if op in _OPS else Fault(SampleReason.INVALID_OP, "the op is 'set' or 'add'")


def _mismatch(  # noqa: PLR0911 - a fault each
    family: Family, statement: Statement, names: tuple[str, ...]
) -> Fault | None:
    _, type_, op, outlives_source = statement
    if family.internal:
        return Fault(SampleReason.RESERVED_NAME, "busmon makes this metric itself")
    if type_ is not None and type_ != family.type:
        return Fault(SampleReason.TYPE_MISMATCH, f"the metric is a {family.type}, and the sample states {type_}")
    if family.type != GAUGE and op is not None:
        return Fault(SampleReason.OP_MISMATCH, f"the metric is a {family.type}, which has no op")
    expected = "add" if family.merge == "add" else "set"
    if family.type == GAUGE and (op or "set") != expected:
        return Fault(
            SampleReason.OP_MISMATCH, f"the gauge takes the op {expected!r}, and the sample has {op or 'set'!r}"
        )
    if outlives_source and not family.outlives_source:
        return Fault(
            SampleReason.OUTLIVES_SOURCE_MISMATCH, "the metric doesn't outlive its source, and the sample states it"
        )
    if len(names) != len(family.labelnames) or {*names} != {*family.labelnames}:
        detail = f"expected {_list_labels(family.labelnames)}; got {_list_labels(names)}"
        return Fault(SampleReason.LABEL_MISMATCH, detail[:MAX_DETAIL_CHARACTERS])
    return None


def _list_labels(names: Sequence[str]) -> str:
    return f"the labels {', '.join(sorted(names))}" if names else "no labels"
