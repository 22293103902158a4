"""The rows of a table that are refused or counted as `other` for a reason that is known beforehand.

A publisher may send a hundred thousand such rows in a few kilobytes, and looking at each with care takes ten times the
time of one that is counted. Each row has the outcome that it would have alone; the counts are exact. Pure but for the
counts; one thread.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from busmon.catalogue.family import COUNTER, GAUGE, Family
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission.budgets import OTHER
from busmon.registry.admission.places import Label, no_place
from busmon.registry.series.columns import SeriesGroup
from busmon.registry.series.shares import NO_ROOM
from busmon.sample_checks import MAX_ADOPTED_VALUE_CHARACTERS, MISMATCH, NUMBERS, check_value
from busmon.wire.floats import LARGEST
from busmon.wire.rejections import KEPT, Rejections

CHUNK_ROWS = 100
"""Rows that are looked at together: after the first refusal at most so many more take the long way."""

NO_ROW = RejectedError(SampleReason.INVALID_ROW, "a row is a list of label values and a value")


class Refusals:
    """The rows of one table that are refused for one of a few reasons, until they are noted.

    Attributes:
        overflow: how many rows found no place, by label.
    """

    def __init__(self, table: Mapping[str, Any], rejections: Rejections) -> None:
        self._table = table
        self._rejections = rejections
        self._rows: dict[tuple[SampleReason, str], list[Any]] = {}
        self.overflow: Counter[str] = Counter()

    def add(self, error: RejectedError, row: Any) -> None:
        """Add a row."""
        self._rows.setdefault(error.args, []).append(row)

    def add_all(self, error: RejectedError, rows: list[Any]) -> None:
        """Add rows."""
        self._rows.setdefault(error.args, []).extend(rows)

    def note(self) -> None:
        """Note all rows, and what the last of each reason stated."""
        for (reason, detail), rows in self._rows.items():
            last = rows[-KEPT:]
            amounts = [len(rows) - len(last) + 1] + [1] * (len(last) - 1)
            for row, amount in zip(last, amounts, strict=True):
                self._rejections.add(RejectedError(reason, detail), (self._table, row), amount)


def count_rows(table: Any) -> int:
    """Return how many samples a rejected table has; at least the one that it itself is."""
    rows = table.get("rows") if type(table) is dict else None
    return max(1, len(rows)) if type(rows) is list else 1


def refuse_invalid(family: Family, rows: list[Any], refusals: Refusals) -> Iterator[list[Any]]:
    """Refuse rows of the wrong form, whatever places there are, and yield the other rows."""
    width, is_single = len(family.labelnames) + 1, family.type in {COUNTER, GAUGE}
    for row in rows:
        if type(row) is not list or not row:
            refusals.add(NO_ROW, row)
        elif is_single and type(row[-1]) not in NUMBERS:
            refusals.add(_fault(family, row[-1]), row)
        elif len(row) != width and type(row[-1]) in NUMBERS:
            try:
                check_value(family, row[-1])
            except RejectedError as error:
                refusals.add(error, row)
            else:
                refusals.add(MISMATCH, row)
        else:
            yield row


def refuse_overflowing(
    group: SeriesGroup, rows: list[Any], labels: tuple[Label, ...], refusals: Refusals
) -> tuple[list[Any], list[Any]]:
    """Take out the rows with a label value that can't have a place, and return them with `other` there, and the rest.

    A gauge's are refused. The rest has those whose `other` series isn't made yet, and whatever else is in doubt.
    """
    over, others = [], []
    refused: dict[tuple[int, ...], list[Any]] = {}
    least = 0 if group.family.type == COUNTER else -LARGEST
    is_gauge, cells = group.family.type == GAUGE, group.cells
    for row in rows:
        full = _full(row, labels)
        # A row of a known series isn't over: its value may have lost the place, and the series stays until it leaves.
        if not full or type(row[-1]) not in NUMBERS or not least <= row[-1] <= LARGEST or tuple(row[:-1]) in cells:
            others.append(row)
            continue
        if not is_gauge:
            folded = [OTHER if place in full else value for place, value in enumerate(row[:-1])]
            if tuple(folded) not in cells:
                others.append(row)
                continue
            over.append([*folded, row[-1]])
        refused.setdefault(full, []).append(row)
    for full, found in refused.items():
        names = [labels[place].name for place in full]
        for name in names:
            refusals.overflow[name] += len(found)
        if is_gauge:
            refusals.add_all(no_place(names), found)
    return over, others


def refuse_crowded(group: SeriesGroup, rows: list[Any], source: str, refusals: Refusals) -> list[Any]:
    """Refuse the source's first values of gauges, as there is no room for its shares, and return the other rows."""
    shares, others = group.column.shares, []
    for row in rows:
        texts = all(type(value) is str for value in row[:-1])
        cell = group.cells.get(tuple(row[:-1])) if texts else None
        if cell is None or shares.has_said(cell, source) or not _is_number_of(group.family, row[-1]):
            others.append(row)
        else:
            refusals.add(NO_ROOM, row)
    return others


def _full(row: list[Any], labels: tuple[Label, ...]) -> tuple[int, ...]:
    """Return where a row's value has no place; nothing if one may have, or isn't a text of moderate length."""
    if len(row) != len(labels) + 1:
        return ()
    full: tuple[int, ...] = ()
    for place, (_, taken, stated, is_full) in enumerate(labels):
        value = row[place]
        if type(value) is not str or len(value) > MAX_ADOPTED_VALUE_CHARACTERS:
            return ()
        if value not in taken and value not in stated and value != OTHER:
            if not is_full:
                return ()
            full += (place,)
    return full


def _is_number_of(family: Family, value: Any) -> bool:
    try:
        check_value(family, value)
    except RejectedError:
        return False
    return type(value) in NUMBERS


def _fault(family: Family, value: Any) -> RejectedError:
    try:
        check_value(family, value)
    except RejectedError as error:
        return error
    raise AssertionError(value)
