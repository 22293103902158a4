"""Labels of the series that an expression can give: a shape for each set of label names, as Prometheus makes them.

A shape maps label names to the one value that a label has there, or to VARIES. A label that varies is a dimension: it
tells the series of the shape apart. Each operation of PromQL is a function from shapes to shapes. Pure.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import promql_parser as promql

VARIES = None
"""A label's value where series differ in it."""

Shape = frozenset[tuple[str, str | None]]
Shapes = frozenset[Shape]
Labels = frozenset[str]

ANY: Shapes = frozenset({frozenset({("*", VARIES)})})
"""Shapes of a number, and of series that nobody knows."""

NONE: Shapes = frozenset({frozenset()})
"""Shapes of one series without labels."""


def shape(labels: Iterable[str], **fixed: str) -> Shape:
    """Make a shape of labels that vary and labels that have one value."""
    return frozenset((dict.fromkeys(labels, VARIES) | fixed).items())


def labels_of(shapes: Shapes) -> Labels:
    """List every label that a series of these shapes may have."""
    return frozenset(label for row in shapes for label, _ in row)


def dimensions(shapes: Shapes) -> Labels:
    """List the labels in which two series of these shapes may differ."""
    values = {label: {dict(row).get(label, "") for row in shapes} for label in labels_of(shapes)}
    return frozenset(label for label, found in values.items() if VARIES in found or len(found) > 1)


def selected(shapes: Shapes, matchers: Sequence[promql.Matcher]) -> Shapes:
    """Keep the shapes that matchers can match; a label that is matched for equality has that value."""
    return frozenset(
        frozenset((dict(row) | _pinned(row, matchers)).items())
        for row in shapes
        if all(_can_match(matcher, dict(row).get(matcher.name, "")) for matcher in matchers)
    )


def aggregated(shapes: Shapes, modifier: promql.AggModifier | None) -> Shapes:
    """Take away the labels that an aggregation takes away."""
    if modifier is None:
        return NONE
    named = set(modifier.labels)
    is_kept = modifier.type is promql.AggModifierType.By
    return frozenset(frozenset(cell for cell in row if (cell[0] in named) == is_kept) for row in shapes)


def without(shapes: Shapes, labels: Collection[str]) -> Shapes:
    """Take labels away."""
    return frozenset(frozenset(cell for cell in row if cell[0] not in labels) for row in shapes)


def relabelled(shapes: Shapes, target: str, replacement: str, source: str, pattern: str) -> tuple[Shapes, list[str]]:
    """Apply `label_replace`; also say where it makes series the same that differed."""
    made, found = set(), []
    for row in shapes:
        cells = dict(row)
        new = _replaced(cells, target, replacement, source, pattern)
        is_changed = new != cells or cells.get(source, "") is VARIES
        if target in cells and cells[target] is VARIES and is_changed and source != target:
            found.append(f"label_replace: overwrites {target}, which tells series apart")
        made.add(frozenset(new.items()))
    return frozenset(made), found


def joined(shapes: Shapes, target: str) -> Shapes:
    """Apply `label_join`."""
    return frozenset(frozenset((dict(row) | {target: VARIES}).items()) for row in shapes)


def matched(op: str, left: Shapes, right: Shapes, modifier: promql.BinModifier | None) -> tuple[Shapes, list[str]]:
    """Apply an operation between vectors; also say where Prometheus refuses it, or where nothing can match."""
    if op == "or":
        return left | right, []
    matching = modifier.matching if modifier else None
    pairs = [(row, other) for row in left for other in right if _can_pair(_key(row, matching), _key(other, matching))]
    if not pairs:
        return left, [f"{op}: never match: {_written(left)} and {_written(right)}"]
    if op in ("and", "unless"):
        return left, []
    card = str(modifier.card) if modifier else ""
    if "ToMany" in card:
        pairs = [(other, row) for row, other in pairs]
    many = "ManyToOne" in card or "OneToMany" in card
    made = {
        _result(row, other, matching, modifier.group_labels or () if modifier and many else None)
        for row, other in pairs
    }
    return frozenset(made), sorted(set(_refused(op, pairs, modifier, is_many=many)))


def _pinned(row: Shape, matchers: Sequence[promql.Matcher]) -> dict[str, str]:
    there = dict(row)
    equal = promql.MatchOp.Equal
    return {match.name: match.value for match in matchers if match.op is equal and match.name in there and match.value}


def _can_match(matcher: promql.Matcher, value: str | None) -> bool:
    if value is VARIES or "$" in matcher.value:
        return True
    is_equal = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.Re)
    if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe):
        return bool(re.fullmatch(matcher.value, value)) == is_equal
    return (matcher.value == value) == is_equal


def _replaced(
    cells: Mapping[str, str | None], target: str, replacement: str, source: str, pattern: str
) -> dict[str, str | None]:
    value = cells.get(source, "")
    if value is VARIES:
        is_total = pattern in ("(.*)", "(.+)", ".*", ".+")
        return {**cells, target: replacement if is_total and "$" not in replacement else VARIES}
    if not (match := re.fullmatch(pattern, value)):
        return dict(cells)
    new = match.expand(re.sub(r"\$\{?(\w+)\}?", r"\\g<\1>", replacement))
    return {label: found for label, found in {**cells, target: new}.items() if found != ""}


def _key(row: Shape, matching: promql.LabelModifier | None) -> dict[str, str | None]:
    if matching is None:
        return dict(row)
    named, is_on = set(matching.labels), matching.type is promql.LabelModifierType.Include
    return {label: value for label, value in row if (label in named) == is_on}


def _can_pair(left: Mapping[str, str | None], right: Mapping[str, str | None]) -> bool:
    values = [(left.get(label, ""), right.get(label, "")) for label in {*left, *right}]
    return all(one == other or (VARIES in (one, other) and "" not in (one, other)) for one, other in values)


def _result(row: Shape, other: Shape, matching: promql.LabelModifier | None, taken: Collection[str] | None) -> Shape:
    """Make the result's shape of the side that gives the labels, and `taken` of the one side of many-to-one."""
    if taken is None:
        return frozenset(_key(row, matching).items())
    there = dict(other)
    kept = {label: value for label, value in row if label not in taken}
    return frozenset((kept | {label: there[label] for label in taken if label in there}).items())


def _refused(
    op: str, pairs: Iterable[tuple[Shape, Shape]], modifier: promql.BinModifier | None, *, is_many: bool
) -> Iterator[str]:
    matching = modifier.matching if modifier else None
    for row, other in pairs:
        for side in (other,) if is_many else (row, other):
            lost = [label for label, value in side if value is VARIES and label not in _key(side, matching)]
            if lost:
                yield f"{op}: several series of a side match, which differ in {', '.join(sorted(lost))}"
        for label in (modifier.group_labels or ()) if modifier and is_many else ():
            if dict(row).get(label, "") is VARIES:
                yield f"{op}: takes {label} from one side, which tells the series of the other apart"


def _written(shapes: Shapes) -> Any:
    return sorted(labels_of(shapes))
