"""The fold: envelopes into the changes of one batch.

It looks at each sample once, in the pass that counts it: a bad sample is rejected by reason and agent and leaves no
trace in its neighbours. Everything stays in memory until the shard commits; `rollback` forgets the batch. The result
is the same however envelopes are cut into batches. One thread.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY, Family
from busmon.errors import AdoptionError, RejectedError
from busmon.registry.admission.admission import ACTIVE_AGENTS, LABEL_OVERFLOW, OWN_AGENT, SERIES_OVERFLOW, Admission
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.checks import check_trace_id, checked, label_texts, stated_time, value_of
from busmon.registry.admission.families import Families
from busmon.registry.fold import refusals, shortcuts
from busmon.registry.fold.columns import SKETCH, Column, Group
from busmon.registry.fold.exemplars import Exemplars
from busmon.registry.fold.points import Points, of_point, point_time
from busmon.registry.fold.rejected import RejectedSamples
from busmon.registry.fold.routes import Route, Routes, of_sample, of_table
from busmon.registry.fold.shares import NOBODY, Room
from busmon.registry.fold.sketches import Sketches
from busmon.registry.fold.streams import Streams
from busmon.registry.principal import Principal
from busmon.wire.envelope import MOVE, Envelope, Observed, Part, Point
from busmon.wire.json_v1 import UNKNOWN_AGENT
from busmon.wire.members import label_names, labels_of, word
from busmon.wire.rejections import Rejections

_NO_TABLE = "a table is an object with a list of rows"
_FEW_VALUES = 8
_STAMP_SUFFIX = "_timestamp_seconds"
_MAX_WAYS = 10_000


class Fold:
    """The open batch of one shard.

    Attributes:
        sketches: of its summaries.
        exemplars: of its counters and histograms.
        streams: the totals that it counts the growth of.
        rejected: the samples that it and the decoders refused.
    """

    def __init__(self, families: Families, columns: Mapping[str, Column], admission: Admission, shard: int) -> None:
        self._columns = columns
        self._admission = admission
        self._routes = Routes(families, columns, admission.budgets, self._principal)
        admission.sender = self._principal
        self._now = 0.0
        self._agent = OWN_AGENT
        self._sender: tuple[str | None, str, str] = None, OWN_AGENT, ""
        self.sketches = Sketches(columns[SKETCH], admission.take_bytes)
        self._room = Room()
        for column in columns.values():
            column.shares.room = self._room
        self.exemplars = Exemplars()
        self.streams = Streams()
        self._points = Points(families)
        self._folded: Counter[str] = Counter()
        self._rejections = Rejections()
        self.rejected = RejectedSamples(shard)
        self._left_out: Counter[tuple[str, str]] = Counter()

    def envelope(self, envelope: Envelope, now: float, user: str | None = None) -> None:
        """Fold every sample of an envelope that arrived at `now`, in seconds since the epoch, published by `user`."""
        source, agent, ts, samples, tables, final, parts, _, _ = envelope
        at = now if ts is None or ts > now else ts
        self._now, self._agent, self._sender = now, agent, (user, agent, source)
        self._room.agent = agent
        for table in shortcuts.tables(self._routes.table_ways, tables, source, at, self._folded) if tables else ():
            try:
                self._table(table, source, at, now)
            except RejectedError as error:
                self._rejections.add(error, table, _row_count(table))
        for sample in shortcuts.samples(self._routes.ways, samples, source, at, self._folded) if samples else ():
            try:
                self._sample(sample, source, at, now)
            except RejectedError as error:
                self._rejections.add(error, sample)
        if self._rejections.counts:
            self._reject(agent, now)
        for part in parts:
            self._part(part, at, now)
        if final:
            self.leave((source,))

    def _principal(self) -> Principal:
        """Give who published the envelope; an agent without a name is told by its source, such as its host."""
        user, agent, source = self._sender
        return Principal(user or "", source if agent == UNKNOWN_AGENT else agent)

    # -- busmon's own ---------------------------------------------------------------------------------------------

    def count(self, name: str, labelvalues: tuple[str, ...] = (), amount: float = 1) -> None:
        """Increment a counter that busmon measures."""
        with suppress(RejectedError):
            column, cell = self._own(name, labelvalues)
            column.increments[cell] += amount

    def observe(self, name: str, labelvalues: tuple[str, ...], values: Sequence[float]) -> None:
        """Observe values in a histogram that busmon measures."""
        group = self._routes.own(name)
        with suppress(RejectedError):
            _observe(group, self._own(name, labelvalues)[1], values)

    def set(self, name: str, labelvalues: tuple[str, ...], value: float, at: float) -> None:
        """Set a gauge of busmon's own, which no source holds; nothing is set where there is no place for it."""
        with suppress(RejectedError):
            column, cell = self._own(name, labelvalues)
            column.shares.set(cell, NOBODY, value, at)

    def _own(self, name: str, labelvalues: tuple[str, ...]) -> tuple[Column, int]:
        group = self._routes.own(name)
        return group.column, group.cells[self._admission.admit(group, labelvalues, OWN_AGENT, self._now)]

    # -- presence -------------------------------------------------------------------------------------------------

    def attend(self, source: str, agent: str, now: float) -> None:
        """Count a source that was heard among its agent's instances, unless these say themselves how many they are."""
        if agent == UNKNOWN_AGENT or not self._derives_agents():
            return
        with suppress(RejectedError):
            column, cell = self._own(ACTIVE_AGENTS, (agent,))
            column.shares.derive(cell, source, 1.0, now)

    def leave(self, sources: Collection[str]) -> None:
        """Take these sources' gauges out: they have stopped."""
        for column in self._columns.values():
            column.shares.drop(sources)

    # -- the batch ------------------------------------------------------------------------------------------------

    def seal(self, now: float) -> None:
        """Add what the fold counted of itself to the batch, each count once; to be called before the commit.

        Raises:
            OSError: the disk can't take one's family; what is counted stays so, and the rest waits.
        """
        self._now = now
        for type_, amount in [*self._folded.items()]:
            self.count("busmon_samples_folded_total", (type_,), amount)
            del self._folded[type_]
        counted: dict[str, Counter[Any]] = {
            "busmon_samples_rejected_total": self.rejected.counts,
            "busmon_labels_dropped_total": self._left_out,
            **self._admission.counted,
        }
        for name, counter in counted.items():
            for labelvalues, amount in [*counter.items()]:
                self.count(name, labelvalues, amount)
                del counter[labelvalues]
        self._forget_counts()

    def rollback(self) -> None:
        """Undo the open batch, and the series that it made."""
        if sum(column.rollback() for column in self._columns.values()):
            self._admission.rollback(self.groups)
        self.streams.rollback()
        self.rejected.rollback()
        self._forget_counts()

    def rewind(self, now: float) -> bool:
        """Let nothing be later than now: the clock was set back. Whether anything was."""
        stamps = {cell for group in self.own_stamps() for cell in group.cells.values()}
        changed = [column.rewind(now, stamps) for column in self._columns.values()]
        self.exemplars.rewind(now)
        return self.streams.move(0.0, now) or any(changed)

    def own_stamps(self) -> list[Group]:
        """Return busmon's own gauges whose values are times."""
        return [group for name, group in self.groups.items() if group.family.internal and name.endswith(_STAMP_SUFFIX)]

    # -- series ---------------------------------------------------------------------------------------------------

    def restore(self, family: Family, labelvalues: tuple[str, ...], cell: int, key_bytes: int) -> None:
        """Take over a series that stands in a value file from this cell on, whose key has so many bytes."""
        self._routes.group(family).adopt(labelvalues, cell, key_bytes)

    def expose_at_zero(self, family: Family) -> None:
        """Make the series of a family whose label values are all known, so that their first increase is seen.

        Not of one that was written with other labels, or can't be written as another occupies its name.
        """
        with suppress(AdoptionError):
            for labelvalues in family.bounded_series():
                group = self._routes.group(family)
                if (group.family.type, group.family.labelnames) == (family.type, family.labelnames):
                    with suppress(RejectedError):
                        self._admission.admit(group, labelvalues, OWN_AGENT, self._now)

    def reroute(self) -> None:
        """Resolve names again: the families have changed."""
        self._routes.forget()
        self._admission.forget()

    def limit(self, budgets: Budgets) -> None:
        """Go by other budgets from here on."""
        self._routes.limit(budgets)
        self._admission.limit(budgets)

    @property
    def groups(self) -> Mapping[str, Group]:
        """This shard's series, by family."""
        return self._routes.groups

    def series(self) -> dict[str, int]:
        """How many series each family has in this shard."""
        return {name: len(group.cells) for name, group in self._routes.groups.items()}

    # -- tables ---------------------------------------------------------------------------------------------------

    def _table(self, table: Any, source: str, at: float, now: float) -> None:
        if type(table) is not dict:
            raise RejectedError("invalid_table", _NO_TABLE)
        if type(rows := table.get("rows", False)) is not list:
            if rows is not None:
                raise RejectedError("invalid_table", _NO_TABLE)
            rows, table = [], {**table, "rows": []}  # as Go writes a list that nobody made
        labels = table.get("labels")
        if type(labels) is not list:
            labels = _stated_labels(label_names, labels)
        if (ts := table.get("ts")) is not None:
            at = stated_time(ts, at, now)
        route = self._routes.find(table, tuple(labels), of_table)
        others = rows
        if route.is_usual:
            shortcut = shortcuts.of_rows(route.group)
            others = shortcut(route.group, rows, source, at)
            self._folded[route.type] += len(rows) - len(others)
            way = labels, shortcut, route.group, route.type
            _note(self._routes.table_ways, table["name"], way)
        for start in range(0, len(others), refusals.CHUNK_ROWS):
            chunk = others[start : start + refusals.CHUNK_ROWS]
            for row in self._refuse(route, table, chunk, source, at) if route.is_usual else chunk:
                try:
                    self._row(route, row, source, at)
                except RejectedError as error:
                    self._rejections.add(error, (table, row))

    def _refuse(self, route: Route, table: Mapping[str, Any], rows: list[Any], source: str, at: float) -> list[Any]:
        """Refuse rows for what is known of all of them, count those of full labels, and return the other rows."""
        group, refused = route.group, refusals.Refusals(table, self._rejections)
        rows = [*refusals.invalid(group.family, rows, refused)]
        if route.type == GAUGE and self._room.is_spent(source):
            rows = refusals.crowded(group, rows, source, refused)
        if rows and (labels := self._admission.labels_of(group.family, self._now)):
            over, rows = refusals.overflowing(group, rows, labels, refused)
            for label, amount in refused.overflow.items():
                self._admission.counted[LABEL_OVERFLOW][group.family.name, label, self._agent] += amount
            left = shortcuts.of_rows(group)(group, over, source, at)
            self._folded[route.type] += len(over) - len(left)
            rows += left
        refused.note()
        return rows

    def _row(self, route: Route, row: Any, source: str, at: float) -> None:
        if type(row) is not list or not row:
            raise RejectedError(*refusals.NO_ROW.args)
        self._value(route, tuple(row[:-1]), row[-1], source, at)

    # -- samples --------------------------------------------------------------------------------------------------

    def _sample(self, sample: Any, source: str, at: float, now: float) -> None:
        if type(sample) is not dict:
            raise RejectedError("invalid_sample", "a sample is an object")
        labels = sample.get("labels")
        if type(labels) is not dict:
            labels = _stated_labels(labels_of, labels)
        value = value_of(sample)
        if (ts := sample.get("ts")) is not None:
            at = stated_time(ts, at, now)
        if (trace_id := word(sample.get("trace_id"))) is not None:
            check_trace_id(trace_id)
        route = self._routes.find(sample, tuple(labels), of_sample)
        labelvalues = self._value(route, tuple(labels.values()), value, source, at)
        if trace_id is not None:
            self.exemplars.take(route.group.family, labelvalues, value, trace_id, at)
        self._note_way(sample["name"], labels, route)

    def _note_way(self, name: str, labels: Mapping[str, Any], route: Route) -> None:
        """Let the next samples of this statement take the short way, if they can."""
        if route.is_usual and route.type != SUMMARY:
            group = route.group
            way = group.cells, group.column, route.type, group.family.buckets, group.sum
            _note(self._routes.ways, (name, *labels), way)

    def _value(self, route: Route, labelvalues: tuple[Any, ...], value: Any, source: str, at: float) -> tuple[str, ...]:
        """Fold one value, and return the label values of its series."""
        group, type_ = route.group, route.type
        change = checked(group.family, value)
        labelvalues, cell = self._cell(route, labelvalues)
        if type_ == COUNTER:
            group.column.increments[cell] += change
        elif type_ != GAUGE:
            _observe(group, cell, change)
            if type_ == SUMMARY and type(change) is list:
                left_out = self.sketches.observe(group, labelvalues, change, self._now)
                if left_out:
                    self._admission.counted[SERIES_OVERFLOW][group.family.name, self._agent] += left_out
        elif route.accumulates:
            _add(group.column, cell, change, at)
        else:
            group.column.shares.set(cell, NOBODY if group.family.outlives_source else source, change, at)
        self._folded[type_] += 1
        return labelvalues

    def _cell(self, route: Route, labelvalues: tuple[Any, ...]) -> tuple[tuple[str, ...], int]:
        """Find the series of a sample, or make it: its label values and its first cell."""
        group = route.group
        if route.order is not None:
            if len(labelvalues) != route.width:
                raise RejectedError("label_mismatch", "the number of label values is not that of the labels")
            labelvalues = tuple([labelvalues[i] for i in route.order])
        try:
            cell = group.cells[labelvalues]
        except (KeyError, TypeError):
            labelvalues = label_texts(group.family.labelnames, labelvalues)
            labelvalues = self._admission.admit(group, labelvalues, self._agent, self._now)
            cell = group.cells[labelvalues]
        for label in route.forbidden:
            self._left_out[label, self._agent] += 1
        return labelvalues, cell

    # -- what other formats say -----------------------------------------------------------------------------------

    def _part(self, part: Part, at: float, now: float) -> None:
        self._agent = self._room.agent = part.agent
        self._points.begin(part)
        for point in part.points:
            try:
                self._point(point, part, at, now)
            except RejectedError as error:
                self._rejections.add(error, point)
        if part.rejections is not None:
            self.rejected.take(part.agent, part.rejections, now)
        if self._rejections.counts:
            self._reject(part.agent, now)

    def _point(self, point: Point, part: Part, at: float, now: float) -> None:
        stated, at = self._points.stated(point, part), point_time(point, at, now)
        labels, value = stated["labels"], point.value
        total = None
        if point.is_total or (point.type is None and stated["type"] == COUNTER):
            total = self.streams.total(part.source, point, now, is_anonymous=part.is_anonymous)
            value = self.streams.growth(total)
        route = self._routes.find({**stated, "value": value}, tuple(labels), of_point)
        if route.type == GAUGE and not route.accumulates:
            self._reading(route, tuple(labels.values()), point, part.source, at)
        else:
            self._value(route, tuple(labels.values()), value, part.source, at)
        if total is not None:
            self.streams.advance(total)

    def _reading(self, route: Route, labelvalues: tuple[str, ...], point: Point, source: str, at: float) -> None:
        """Set or move a gauge; of several readings of one time the last in the body counts."""
        group, value = route.group, checked(route.group.family, point.value)
        _, cell = self._cell(route, labelvalues)
        change_share = group.column.shares.move if point.op == MOVE else group.column.shares.replace
        change_share(cell, NOBODY if group.family.outlives_source else source, value, at)
        self._folded[GAUGE] += 1

    def _reject(self, agent: str, now: float) -> None:
        """Count what the fold has rejected of one source since the last call."""
        self.rejected.take(agent, self._rejections, now)
        self._rejections.clear()

    def _derives_agents(self) -> bool:
        """Whether live agents are counted by type; not where a catalogue has that metric in another form."""
        with suppress(LookupError, AdoptionError):
            group = self._routes.own(ACTIVE_AGENTS)
            return group.column.name == "gauge_sum" and len(group.family.labelnames) == 1
        return False

    def _forget_counts(self) -> None:
        self._folded.clear()
        self._rejections.clear()
        self.rejected.counts.clear()
        self._left_out.clear()
        for counter in self._admission.counted.values():
            counter.clear()


def _stated_labels(read: Callable[[Any], Any], labels: Any) -> Any:
    """Return labels that aren't of their usual type.

    Raises:
        RejectedError: `invalid_label`: nothing that they are means none.
    """
    try:
        return read(labels)
    except ValueError as error:
        raise RejectedError("invalid_label", str(error)) from None


def _note(ways: dict[Any, Any], statement: Any, way: Any) -> None:
    if len(ways) >= _MAX_WAYS:
        ways.clear()
    ways[statement] = way


def _row_count(table: Any) -> int:
    """How many samples a rejected table has; at least the one that it itself is."""
    rows = table.get("rows") if type(table) is dict else None
    return max(1, len(rows)) if type(rows) is list else 1


def _observe(group: Group, cell: int, change: Sequence[float] | dict[str, Any] | Observed) -> None:
    increments = group.column.increments
    if type(change) is Observed:
        _observe_counted(group, cell, change)
        return
    if type(change) is dict:
        for bound, count in change["buckets"].items():
            increments[cell + bisect_left(group.family.buckets, float(bound))] += count
        increments[cell + group.sum] += change["sum"]
        return
    values: Sequence[float] = change  # type: ignore[assignment]
    increments[cell + group.sum] += sum(values)
    if group.family.type != HISTOGRAM:
        increments[cell] += len(values)
    elif len(values) <= _FEW_VALUES:
        for value in values:
            increments[cell + bisect_left(group.family.buckets, value)] += 1
    else:
        _observe_many(group, cell, values)


def _observe_counted(group: Group, cell: int, observed: Observed) -> None:
    increments, above = group.column.increments, observed.count
    increments[cell + group.sum] += observed.sum
    if group.family.type == HISTOGRAM:
        for bound, count in observed.buckets.items():
            increments[cell + bisect_left(group.family.buckets, bound)] += count
            above -= count
    increments[cell + group.infinity] += above


def _observe_many(group: Group, cell: int, values: Sequence[float]) -> None:
    """One search for each bound instead of one for each value, for the latencies of a whole batch."""
    ordered = sorted(values)
    ends = [0, *(bisect_right(ordered, bound) for bound in group.family.buckets), len(ordered)]
    for offset, (start, end) in enumerate(pairwise(ends)):
        if end > start:
            group.column.increments[cell + offset] += end - start


def _add(column: Column, cell: int, change: float, at: float) -> None:
    column.increments[cell] += change
    column.times[cell] = max(at, column.times.get(cell, 0.0))
