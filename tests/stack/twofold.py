"""Cases with two of everything, made of the alerts' own cases: an alert must tell all of them, each once.

Every label of a case's series gets two values, but for those that the rules ask for by their value. The values are
the same for all labels, so series that only a label's name tells apart become the same where a rule overwrites that
label. Each of two jobs has two registry directories, each served by two exporters. How many alerts fire follows from
the labels that the linter says the alert's expression leaves.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import promql_parser as promql

from busmon import rules
from tests.stack.known_metrics import TARGET_LABELS, Series
from tests.stack.promql_shapes import VARIES, Shape, Shapes
from tests.stack.reach import reach
from tests.stack.rule_cases import TARGET, AlertCase, parts, written

NAMES = ("one", "two", "three", "four", "five", "six")
"""Values of a label, a pair for each value that it has in the case."""

_KEPT = frozenset({"le", "quantile"})
_SECONDS = {"s": 1, "m": 60, "h": 3600}

Labels = Mapping[str, str]


def twofold(cases: Sequence[AlertCase], groups: Sequence[rules.Group], known: Mapping[str, Series]) -> AlertCase:
    """Join the cases in which an alert fires, where they are of other metrics than those before, and double them."""
    first, *others = (case for case in cases if case.fires)
    joined = first
    for case in others:
        if case.step == joined.step and not _metrics(case) & _metrics(joined):
            joined = _together(joined, case)
    return _doubled(joined, groups, known)


def expected(case: AlertCase, shapes: Shapes) -> int:
    """Count the alerts that must fire: one for each combination of the values that their labels have in the case."""
    there = [shape for shape in shapes if dict(shape).get("unresolved", case.alert) in case.names()]
    given = [parts(selector)[1] for selector in case.series]
    return sum(_combinations(shape, given) for shape in there)


def _combinations(shape: Shape, given: Sequence[Labels]) -> int:
    dimensions = [label for label, value in shape if value is VARIES]
    return len({tuple(row[label] for label in dimensions) for row in given if row.keys() >= set(dimensions)})


def _metrics(case: AlertCase) -> set[str]:
    return {parts(selector)[0] for selector in case.series}


def _together(case: AlertCase, other: AlertCase) -> AlertCase:
    last = max(case.fires, other.fires, key=_moment)
    together_with = sorted({*case.together_with, *other.together_with})
    return replace(case, series={**case.series, **other.series}, fires=last, together_with=together_with)


def _moment(text: str) -> int:
    return sum(int(number) * _SECONDS[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def _doubled(case: AlertCase, groups: Sequence[rules.Group], known: Mapping[str, Series]) -> AlertCase:
    asked = _asked(groups, case.names())
    names = _names(case.series)
    series = {
        written(name, labels): values
        for selector, values in case.series.items()
        for name, given in [parts(selector)]
        for labels in _pairs({**dict.fromkeys(_more(known, name, given), ""), **given}, asked, names)
    }
    return replace(case, promise="two of everything", series=series, quiet="", over="", end="")


def _more(known: Mapping[str, Series], name: str, given: Labels) -> set[str]:
    return set(known[name].labels) - TARGET_LABELS - _KEPT - set(given) if name in known else set()


def _asked(groups: Sequence[rules.Group], names: Iterable[str]) -> Mapping[str, list[promql.Matcher]]:
    """Find what the rules ask of each label."""
    kept = reach(groups, names)
    found: dict[str, list[promql.Matcher]] = defaultdict(list)
    for rule in (rule for group in groups for rule in group.rules if rule.name in kept):
        for matcher in _matchers(promql.parse(rule.expr)):
            found[matcher.name].append(matcher)
    return found


def _matchers(node: promql.Expr) -> Iterator[promql.Matcher]:
    if isinstance(node, promql.MatrixSelector):
        node = node.vector_selector
    if isinstance(node, promql.VectorSelector):
        yield from node.matchers.matchers
    for child in (getattr(node, name, None) for name in ("expr", "lhs", "rhs")):
        if child is not None:
            yield from _matchers(child)
    for argument in getattr(node, "args", ()):
        yield from _matchers(argument)


def _names(series: Iterable[str]) -> Mapping[str, list[str]]:
    """List the values of each label in a case."""
    values: dict[str, set[str]] = defaultdict(set)
    for selector in series:
        for label, value in parts(selector)[1].items():
            values[label].add(value)
    return {label: sorted(found) for label, found in values.items()}


def _pairs(
    labels: Labels, asked: Mapping[str, list[promql.Matcher]], names: Mapping[str, list[str]]
) -> Iterator[dict[str, str]]:
    own = {label: value for label, value in labels.items() if label not in TARGET}
    choices = [_values(label, value, asked.get(label, ()), names) for label, value in own.items()]
    for job in _values("job", labels.get("job", TARGET["job"]), asked.get("job", ()), {}):
        for registry, instance in product(NAMES[:2], NAMES[:2]):
            for chosen in product(*choices):
                target = {"job": job, "instance": f"{registry}-{instance}", "registry": registry}
                yield target | dict(zip(own, chosen, strict=True))


def _values(label: str, value: str, asked: Sequence[promql.Matcher], names: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Give a label two values, which the rules take as they take its own."""
    equal = (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
    if label in _KEPT or any(matcher.op in equal for matcher in asked if value):
        return (value,)
    if asked and value:
        return value, f"{value}-two"
    place = 2 * names[label].index(value) if value and label in names else 0
    return (value, f"{value}-two") if label == "job" else NAMES[place : place + 2]
