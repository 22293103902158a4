"""The fold of envelopes into the changes of one batch.

It looks at each sample once, in the pass that counts it: a bad sample is rejected by reason and agent and leaves no
trace in its neighbours. Everything stays in memory until the shard commits; `rollback` forgets the batch. The result
is the same however envelopes are cut into batches. One thread.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import orjson

from busmon.catalogue.family import COUNTER, GAUGE, SUMMARY, Family
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission.admission import LABEL_OVERFLOW, OWN_AGENT, SERIES_OVERFLOW, Admission
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.families import Families
from busmon.registry.celery.events import Celery, Gone
from busmon.registry.fold import observing, refusals, shortcuts
from busmon.registry.fold.exemplars import Exemplars
from busmon.registry.fold.known_texts import IS_SCANNING, KnownTexts
from busmon.registry.fold.own_metrics import OwnMetrics
from busmon.registry.fold.points import Points, of_point, point_time
from busmon.registry.fold.rejection_log import RejectionLog
from busmon.registry.fold.routes import Route, Routes, of_sample, of_table
from busmon.registry.fold.sender import CurrentSender
from busmon.registry.fold.sketches import Sketches
from busmon.registry.fold.streams import Streams
from busmon.registry.series.columns import SKETCH, Column, SeriesGroup
from busmon.registry.series.shares import NOBODY, Room
from busmon.sample_checks import check_trace_id, check_value, label_texts, read_labels, read_time, value_of
from busmon.wire.envelope import MOVE, Envelope, Part, Point
from busmon.wire.json_v1 import of_document
from busmon.wire.members import label_names, labels_of, word
from busmon.wire.rejections import Rejections

if IS_SCANNING:
    from busmon.registry.fold import cut

_NO_TABLE = "a table is an object with a list of rows"
_STAMP_SUFFIX = "_timestamp_seconds"


class Fold:
    """The open batch of one shard.

    Attributes:
        own: busmon's own metrics.
        texts: read the bodies whose series are known.
        sketches: of its summaries.
        exemplars: of its counters and histograms.
        streams: the totals that it counts the growth of.
        celery: the tasks and workers of Celery.
        rejected: the samples that it and the decoders refused.
    """

    def __init__(self, families: Families, columns: Mapping[str, Column], admission: Admission, shard: int) -> None:
        self._columns = columns
        self._admission = admission
        self._sender = admission.sender = CurrentSender()
        self._routes = Routes(families, columns, admission.budgets, self._sender)
        self._ways, self._table_ways = self._routes.ways.entries, self._routes.table_ways.entries
        self.texts = KnownTexts(self._routes)
        self._agent = OWN_AGENT
        self.own = OwnMetrics(self._routes, admission, self._sender)
        self.sketches = Sketches(columns[SKETCH], admission.take_bytes)
        self._room = Room()
        for column in columns.values():
            column.shares.room = self._room
        self.exemplars = Exemplars()
        self.streams = Streams()
        self.celery = Celery()
        self._points = Points(families)
        self._folded: Counter[str] = Counter()
        self._rejections = Rejections()
        self.rejected = RejectionLog(shard)
        self._left_out: Counter[tuple[str, str]] = Counter()

    def envelopes(self, envelopes: Sequence[Envelope], times: Sequence[float], users: Sequence[str | None]) -> None:
        """Fold every sample of envelopes that were published by these users.

        Args:
            envelopes: in their order; the texts of this fold may have scanned them.
            times: when each one arrived, in seconds since the epoch.
            users: that published each one.
        """
        place = 0
        while place < len(envelopes):
            if IS_SCANNING:
                place = cut.fold(envelopes, times, place, self._room, self._folded)
            if place < len(envelopes):
                self.envelope(envelopes[place], times[place], users[place])
                place += 1
        if times:
            self.own.now = times[-1]

    def envelope(self, envelope: Envelope, now: float, user: str | None = None) -> None:
        """Fold every sample of an envelope that arrived at `now`, in seconds since the epoch, published by `user`.

        What was scanned of its body is parsed.
        """
        source, agent, ts, samples, tables, final, parts, _, _, scanned, _ = envelope
        at = now if ts is None or ts > now else ts
        own = self.own
        own.now, self._sender.said, self._agent = now, (user, agent, source), agent
        self._room.agent = agent
        if scanned is not None:
            _, _, _, samples, tables, *_ = of_document(orjson.loads(scanned.body))
        for table in shortcuts.tables(self._table_ways, tables, source, at, self._folded, now=now) if tables else ():
            try:
                self._table(table, source, at, now)
            except RejectedError as error:
                self._rejections.add(error, table, refusals.count_rows(table))
        for sample in shortcuts.samples(self._ways, samples, source, at, self._folded) if samples else ():
            try:
                self._sample(sample, source, at, now)
            except RejectedError as error:
                self._rejections.add(error, sample)
        if self._rejections.counts:
            self._reject(agent, now)
        for part in parts:
            self._sender.said = user, part.agent, part.source
            self._part(part, at, now)
        if final:
            self.leave((source,))

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
        self.own.now = now
        for type_, amount in [*self._folded.items()]:
            self.own.count("busmon_samples_folded_total", (type_,), amount)
            del self._folded[type_]
        counted: dict[str, Counter[Any]] = {
            "busmon_samples_rejected_total": self.rejected.counts,
            "busmon_labels_dropped_total": self._left_out,
            **self._admission.counted,
        }
        for name, counter in counted.items():
            for labelvalues, amount in [*counter.items()]:
                self.own.count(name, labelvalues, amount)
                del counter[labelvalues]
        self._forget_counts()

    def rollback(self) -> None:
        """Undo the open batch, and the series that it made."""
        if sum(column.rollback() for column in self._columns.values()):
            self.texts.clear()
            self._admission.rollback(self.groups)
        self.streams.rollback()
        self.celery.rollback()
        self.rejected.rollback()
        self._forget_counts()

    def move(self, seconds: float, now: float) -> None:
        """Move the times of totals and of Celery's tasks by the seconds of a step of the wall clock forwards."""
        self.streams.move(seconds, now)
        self.celery.move(seconds, now)

    def rewind(self, now: float) -> bool:
        """Let nothing be later than now: the clock was set back. Return whether anything was."""
        stamps = {cell for group in self.own_stamps() for cell in group.cells.values()}
        changed = [column.rewind(now, stamps) for column in self._columns.values()]
        self.exemplars.rewind(now)
        return any([self.streams.move(0.0, now), self.celery.move(0.0, now), *changed])

    def own_stamps(self) -> list[SeriesGroup]:
        """Return busmon's own gauges whose values are times."""
        return [group for name, group in self.groups.items() if group.family.internal and name.endswith(_STAMP_SUFFIX)]

    # -- series ---------------------------------------------------------------------------------------------------

    def restore(self, family: Family, labelvalues: tuple[str, ...], cell: int, key_bytes: int) -> None:
        """Take over a series that a value file has from this cell on; its key has `key_bytes` bytes."""
        self._routes.group(family).adopt(labelvalues, cell, key_bytes)

    def reroute(self) -> None:
        """Resolve names again: the families have changed."""
        self._routes.forget()
        self.texts.clear()
        self._admission.forget()

    def limit(self, budgets: Budgets) -> None:
        """Apply other budgets from here on."""
        self._routes.limit(budgets)
        self.texts.clear()
        self._admission.limit(budgets)

    @property
    def groups(self) -> Mapping[str, SeriesGroup]:
        """The shard's series, by family."""
        return self._routes.groups

    # -- tables ---------------------------------------------------------------------------------------------------

    def _table(self, table: Any, source: str, at: float, now: float) -> None:
        if type(table) is not dict:
            raise RejectedError(SampleReason.INVALID_TABLE, _NO_TABLE)
        if type(rows := table.get("rows", False)) is not list:
            if rows is not None:
                raise RejectedError(SampleReason.INVALID_TABLE, _NO_TABLE)
            rows, table = [], {**table, "rows": []}  # as Go writes a list that nobody made
        labels = table.get("labels")
        if type(labels) is not list:
            labels = read_labels(label_names, labels)
        if (ts := table.get("ts")) is not None:
            at = read_time(ts, at, now)
        route = self._routes.find(table, tuple(labels), of_table)
        others = rows
        if route.is_usual:
            shortcut = shortcuts.of_rows(route.group)
            others = shortcut(route.group, rows, source, at)
            self._folded[route.type] += len(rows) - len(others)
            way = labels, shortcut, route.group, route.type
            self._routes.table_ways.keep(table["name"], way)
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
        rows = [*refusals.refuse_invalid(group.family, rows, refused)]
        if route.type == GAUGE and self._room.is_spent(source):
            rows = refusals.refuse_crowded(group, rows, source, refused)
        if rows and (labels := self._admission.labels_of(group.family, self.own.now)):
            over, rows = refusals.refuse_overflowing(group, rows, labels, refused)
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
            raise RejectedError(SampleReason.INVALID_SAMPLE, "a sample is an object")
        labels = sample.get("labels")
        if type(labels) is not dict:
            labels = read_labels(labels_of, labels)
        value = value_of(sample)
        if (ts := sample.get("ts")) is not None:
            at = read_time(ts, at, now)
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
            self._routes.ways.keep((name, *labels), way)

    def _value(self, route: Route, labelvalues: tuple[Any, ...], value: Any, source: str, at: float) -> tuple[str, ...]:
        """Fold one value, and return the label values of its series."""
        group, type_ = route.group, route.type
        change = check_value(group.family, value)
        labelvalues, cell = self._cell(route, labelvalues)
        if type_ == COUNTER:
            group.column.increments[cell] += change
        elif type_ != GAUGE:
            observing.observe(group, cell, change)
            if type_ == SUMMARY and type(change) is list:
                left_out = self.sketches.observe(group, labelvalues, change, self.own.now)
                if left_out:
                    self._admission.counted[SERIES_OVERFLOW][group.family.name, self._agent] += left_out
        elif route.accumulates:
            observing.add(group.column, cell, change, at)
        else:
            group.column.shares.set(cell, NOBODY if group.family.outlives_source else source, change, at)
        self._folded[type_] += 1
        return labelvalues

    def _cell(self, route: Route, labelvalues: tuple[Any, ...]) -> tuple[tuple[str, ...], int]:
        """Find the series of a sample, or make it: its label values and its first cell."""
        group = route.group
        if route.order is not None:
            if len(labelvalues) != route.width:
                raise RejectedError(SampleReason.LABEL_MISMATCH, "the number of label values is not that of the labels")
            labelvalues = tuple([labelvalues[i] for i in route.order])
        try:
            cell = group.cells[labelvalues]
        except (KeyError, TypeError):
            labelvalues = label_texts(group.family.labelnames, labelvalues)
            labelvalues = self._admission.admit(group, labelvalues, self._agent, self.own.now)
            cell = group.cells[labelvalues]
        for label in route.forbidden:
            self._left_out[label, self._agent] += 1
        return labelvalues, cell

    # -- what other formats say -----------------------------------------------------------------------------------

    def _part(self, part: Part, at: float, now: float) -> None:
        self._agent = self._room.agent = part.agent
        self._points.begin(part)
        for point in chain(part.points, *(self.celery.take(event, now) for event in part.events)):
            try:
                self._point(point, part, at, now)
            except RejectedError as error:
                self._rejections.add(error, point)
        if part.events:
            self.withdraw(self.celery.take_gone(), part)
        if part.rejections is not None:
            self.rejected.take(part.agent, part.rejections, now)
        if self._rejections.counts:
            self._reject(part.agent, now)

    def _point(self, point: Point, part: Part, at: float, now: float) -> None:
        stated, at = self._points.translate(point, part), point_time(point, at, now)
        labels, value = stated["labels"], point.value
        total = None
        if point.is_total or (point.type is None and stated["type"] == COUNTER):
            total = self.streams.total(
                part.source, point, now, is_anonymous=part.is_anonymous, times_counted=part.times_counted
            )
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
        group, value = route.group, check_value(route.group.family, point.value)
        _, cell = self._cell(route, labelvalues)
        change_share = group.column.shares.move if point.op == MOVE else group.column.shares.replace
        change_share(cell, NOBODY if group.family.outlives_source else source, value, at)
        self._folded[GAUGE] += 1

    def read(self, part: Part, now: float) -> None:
        """Fold what busmon itself has found out of a source."""
        self.own.now, self._sender.said = now, (None, part.agent, part.source)
        self._part(part, now, now)

    def withdraw(self, series: Iterable[Gone], part: Part) -> None:
        """Take gauges that nobody says any longer out of the scrape."""
        self._points.begin(part)
        for name, labels in series:
            stated = self._points.translate(Point(name, name, GAUGE, 0.0, labels), part)
            if group := self.groups.get(stated["name"]):
                cell = group.cells.get(tuple(stated["labels"].get(label, "") for label in group.family.labelnames))
                if cell is not None:
                    group.column.shares.remove(cell, NOBODY)

    def _reject(self, agent: str, now: float) -> None:
        """Count what the fold has rejected of one source since the last call."""
        self.rejected.take(agent, self._rejections, now)
        self._rejections.clear()

    def _forget_counts(self) -> None:
        self._folded.clear()
        self._rejections.clear()
        self.rejected.counts.clear()
        self._left_out.clear()
        for counter in self._admission.counted.values():
            counter.clear()
