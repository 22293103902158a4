"""The texts that a shard's scanner knows, and how they become known: each leads to the series that it states.

`wire/cuts.py` says what a text between two numbers says, in the context of the number before it. A context is a state
of the scanner. A text is learned once its series exists, so each check and budget was passed the ordinary way. Texts
and contexts are bounded. Only with the compiled scanner. One thread.
"""

import re
from math import inf
from typing import Any, NamedTuple

from busmon import sample_checks
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, Family
from busmon.errors import RejectedError
from busmon.registry.fold.cut import Change, Target
from busmon.registry.fold.routes import Routes
from busmon.registry.fold.scanning import END, MAX_BODY_BYTES, MAX_TEXT_BYTES, START, Scanner
from busmon.registry.series.columns import Column, SeriesGroup
from busmon.wire import cuts
from busmon.wire.cuts import AFTER_HEAD, Context, Header, Kind, Said

MAX_TEXTS = 250_000
"""Of one shard; each takes some 60 bytes and its own."""

MAX_BYTES = 16 * 1024 * 1024
"""Of all its texts."""

MAX_STATED = 10_000
"""Heads, and contexts: publishers may state others in each body."""

_MOST_LEARNED = 1000
"""Texts that are learned from one body."""

_PASSED_PER_LEARNED = 16
"""Known texts that are passed on the way to unknown ones, for each learned one: passing one costs more than parsing."""

_HEAD = re.compile(rb'.*?"ts": *', re.DOTALL)
_TEXT = re.compile(rb'(?:[^"0-9-]|"(?:[^"\\]|\\.)*")*', re.DOTALL)
_NUMBER = re.compile(rb"-?[0-9.eE+-]+")

_CHANGES = {COUNTER: Change.COUNT, GAUGE: Change.SET, HISTOGRAM: Change.OBSERVE}


class _Meaning(NamedTuple):
    """A number's change: of the series with this first cell, or of the series of the number before."""

    change: Change
    target: Target | None = None
    cell: int = 0
    bucket: int = 0


_NO_CHANGE, _SINCE, _LIST, _ADD_SUM = map(_Meaning, (Change.NOTHING, Change.SINCE, Change.LIST, Change.ADD_SUM))


class Learner:
    """The scanner of one shard, with the contexts that its states stand for.

    Attributes:
        scanner: knows the texts.
    """

    def __init__(self, routes: Routes) -> None:
        self.scanner = Scanner()
        self._ways, self._table_ways = routes.ways.entries, routes.table_ways.entries
        self.clear()

    def clear(self) -> None:
        """Forget all texts and contexts."""
        self.scanner.clear()
        self._contexts: list[Context | None] = [None]
        self._states: dict[Context, int] = {}
        self._targets: dict[tuple[str, tuple[float, ...]], Target] = {}
        self._heads = 0

    @property
    def is_full(self) -> bool:
        """Return whether no further text is learned."""
        is_stated = max(self._heads, len(self._contexts)) >= MAX_STATED
        return is_stated or len(self.scanner) >= MAX_TEXTS or self.scanner.text_bytes >= MAX_BYTES

    @staticmethod
    def passes_over(body: bytes) -> bool:
        """Return whether a body is too long to be scanned or learned from."""
        return len(body) > MAX_BODY_BYTES

    def learn(self, body: bytes) -> bool:
        """Learn the texts of the body that was read last, from the unknown one to one that states no known series.

        Returns:
            Whether one of them was new and states a known series.
        """
        known = len(self.scanner) - self._heads
        self._learn(body)
        return len(self.scanner) - self._heads > known

    def _learn(self, body: bytes) -> None:
        state, at, known = self.scanner.missed_state, self.scanner.missed_at, len(self.scanner)
        for step in range(_MOST_LEARNED):
            if state == END or step > _PASSED_PER_LEARNED * (len(self.scanner) - known + 1):
                return
            # The search is slow, and a long text would have it take hundreds of bytes for each of its own.
            found = (_HEAD if state == START else _TEXT).match(body, at, at + MAX_TEXT_BYTES + 1)
            if found is None or len(found[0]) > MAX_TEXT_BYTES:
                return
            number, is_last = _NUMBER.match(body, found.end()), found.end() == len(body)
            behind = self._learn_text(state, found[0], is_last=is_last) if number or is_last else None
            if behind is None or number is None:
                return
            state, at = behind, number.end()

    def _learn_text(self, state: int, text: bytes, *, is_last: bool) -> int | None:
        """Return the state behind a text, and learn the text if it is new; None where it states no known series."""
        behind = self.scanner.find(state, text)
        if behind is not None:
            return behind
        context = self._contexts[state]
        if context is None:
            author = cuts.read_head(text)
            if author is not None:
                behind = self._find_state(AFTER_HEAD)
                self._heads += 1
                self.scanner.learn(state, text, behind, Change.NOTHING, author)
            return behind
        said = cuts.read_text(context, text, is_last=is_last)
        meaning = None if said is None else self._find_meaning(said)
        if said is None or meaning is None:
            return None
        behind = END if said is cuts.END else self._find_state(said.context)
        self.scanner.learn(state, text, behind, *meaning)
        return behind

    def _find_state(self, context: Context) -> int:
        """Return the number of a context, a new one for a context that isn't known."""
        state = self._states.get(context)
        if state is None:
            state = self._states[context] = len(self._contexts)
            self._contexts.append(context)
        return state

    def _find_meaning(self, said: Said) -> _Meaning | None:
        """Find the change by the number behind a text; None where no series is known that the text states."""
        kind = said.context.kind
        if kind in {Kind.END, Kind.SINCE}:
            return _SINCE if kind == Kind.SINCE else _NO_CHANGE
        try:
            if said.sample is not None:
                return self._find_sample(**said.sample)
            return self._find_cell(self._find_group(said.context.header), said)
        except (KeyError, TypeError):
            return None

    def _find_group(self, header: Header | None) -> SeriesGroup:
        """Find the series of a table by the way that the ordinary fold took for such tables.

        Raises:
            KeyError, TypeError: it took none.
        """
        if header is None:
            raise KeyError
        labels, _, group, type_ = self._table_ways[header.name]
        if [*header.labels] != labels or header.type not in {None, type_}:
            raise KeyError
        return group

    def _find_cell(self, group: SeriesGroup, said: Said) -> _Meaning | None:
        """Find the change of a row by its value, or by one of the numbers of its value.

        Raises:
            KeyError, TypeError: there is no such series.
        """
        family, context = group.family, said.context
        if context.kind in {Kind.BUCKET, Kind.SUM} and not _is_next_bucket(family, said):
            return None
        if said.labelvalues is None:
            if context.kind == Kind.BUCKET:
                return _Meaning(Change.ADD_BUCKET, bucket=context.buckets - 1)
            return _ADD_SUM if context.kind == Kind.SUM else _LIST
        if family.type != HISTOGRAM and context.kind != Kind.ROW:
            return None
        change = Change.ADD_BUCKET if context.kind == Kind.BUCKET else _CHANGES[family.type]
        if change == Change.SET and context.header and context.header.has_since:
            change = Change.SET_SINCE
        cell = group.cells[tuple(said.labelvalues)]
        return _Meaning(change, self._find_target(group.column, family.type, family.buckets, group.sum), cell)

    def _find_sample(self, name: Any, labels: Any, value: object, type: Any = None) -> _Meaning | None:  # noqa: A002, ARG002 - JSON's names
        """Find the change of a sample by the way that the ordinary fold took for such samples.

        Raises:
            KeyError, TypeError: it took none, or there is no such series.
        """
        if not isinstance(labels, dict):
            return None
        cells, column, family_type, bounds, total = self._ways[name, *labels]
        if type not in {None, family_type}:
            return None
        cell = cells[*labels.values()]
        return _Meaning(_CHANGES[family_type], self._find_target(column, family_type, bounds, total), cell)

    def _find_target(self, column: Column, type_: str, bounds: tuple[float, ...], total: int) -> Target:
        """Return the one target that families of this form have in a column."""
        target = self._targets.get((column.name, bounds))
        if target is None:
            changed = column.shares if type_ == GAUGE else column.increments
            target = self._targets[column.name, bounds] = Target(changed, bounds, total)
        return target


def _is_next_bucket(family: Family, said: Said) -> bool:
    """Return whether the family's buckets are stated in their order up to this one, or all of them before the sum."""
    stated, bounds = said.context.buckets, (*family.buckets, inf)
    if said.bound is None:
        return family.type == HISTOGRAM and stated == len(bounds)
    try:
        return sample_checks.bounds({"buckets": {said.bound: 1}}) == {*bounds[stated - 1 : stated]}
    except RejectedError:
        return False
