"""A linter of PromQL: what Prometheus accepts and answers with nothing, or with a wrong number.

`Lint.findings` takes one expression; dashboards give theirs with Grafana's variables in it. What it knows of series
comes from known_metrics; recorded ones and alerts are learnt in the order in which they are given, with the labels that
their expressions leave (promql_shapes). An expression is walked once, from its leaves up.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import promql_parser as promql

from tests.stack import promql_shapes
from tests.stack.known_metrics import Series
from tests.stack.promql_shapes import ANY, NONE, Labels, Shape, Shapes, dimensions, labels_of, shape

SAMPLES_IN_A_RANGE = 4
COUNTER_FUNCTIONS = {"rate", "irate", "increase", "resets"}
GAUGE_FUNCTIONS = {"deriv", "delta", "idelta", "predict_linear"}
MAY_MATCH_NOTHING = "$agent"
"""A variable whose All matches a label that isn't there, as fleets' series have it on purpose."""
_QUANTILE_NAME = re.compile(r":p\d\d")
_SELDOM = "% 3600 <"
"""In a recording that has a result only once an hour."""

_PLAIN = re.compile(r"[\w-]*")
_VARIABLES = (
    (re.compile(r"\$(__rate_interval|__interval|\{__rate_interval\}|\{__interval\})"), "1m"),
    (re.compile(r"\$(__range|\{__range\})"), "1h"),
)


class Lint:
    """Findings about expressions, one line each.

    Args:
        series: what there is, by name; recorded ones are added to it.
    """

    def __init__(self, series: Mapping[str, Series]) -> None:
        self._series = dict(series)
        self._shapes: dict[str, Shapes] = {name: frozenset({shape(found.labels)}) for name, found in series.items()}
        self._hourly: set[str] = set()
        self._alerts: set[Shape] = set()
        self._found: list[str] = []

    def findings(self, expression: str) -> list[str]:
        """List what is wrong with an expression, of a rule or a panel."""
        self._look(expression)
        return self._found

    def labels(self, expression: str) -> Labels:
        """List the labels that its result may have."""
        return labels_of(self._look(expression))

    def shapes(self, expression: str) -> Shapes:
        """Make the shapes of its result."""
        return self._look(expression)

    def alert(self, name: str, expression: str, labels: Mapping[str, str]) -> None:
        """Learn an alert, whose series ALERTS and ALERTS_FOR_STATE have."""
        own = {key: None if "{{" in value else value for key, value in labels.items()} | {"alertname": name}
        self._alerts |= {frozenset((dict(row) | own).items()) for row in self._look(expression)}
        self._shapes["ALERTS_FOR_STATE"] = frozenset(self._alerts)
        self._shapes["ALERTS"] = frozenset(row | {("alertstate", None)} for row in self._alerts)

    def alert_findings(
        self, expression: str, *, has_for: bool, used_labels: Iterable[str], set_labels: Iterable[str] = ()
    ) -> list[str]:
        """List what is wrong with an alert's expression, with the labels that its texts use, and with those it sets."""
        shapes = self._look(expression)
        found = self._found
        if re.search(r"\b(topk|bottomk)\b", expression):
            found.append("topk: its series come and go, and an alert starts again with each")
        if has_for and "_over_time" in expression:
            found.append("*_over_time with `for`: waits twice")
        if not re.search(r"==|!=|<|>|\babsent\(|\bvector\(", expression):
            found.append("no comparison: it fires whenever there is a series")
        lost = dimensions(shapes) & {"alertname", *set_labels}
        found += [f"{name}: set by the rule, and tells series of the result apart" for name in sorted(lost)]
        known = labels_of(shapes) | {"job", "instance", "alertname"}
        return found + [f"$labels.{name}: the result has no such label" for name in used_labels if name not in known]

    def record(self, name: str, expression: str, every_seconds: float) -> list[str]:
        """List what is wrong with a recorded expression; its name is known from here on."""
        shapes = self._look(expression)
        kind = "quantile" if _QUANTILE_NAME.search(name) else "gauge"
        self._series[name] = Series(kind, labels_of(shapes), every_seconds)
        self._shapes[name] = shapes
        if _SELDOM in expression:
            self._hourly.add(name)
        return self._found

    def _look(self, expression: str) -> Shapes:
        self._found = []
        for pattern, value in _VARIABLES:
            expression = pattern.sub(value, expression)
        try:
            tree = promql.parse(expression)
        except ValueError as error:
            self._found.append(f"doesn't parse: {error}")
            return ANY
        return self._walk(tree)

    def _walk(self, node: promql.Expr) -> Shapes:
        steps: dict[type, Callable[[Any], Shapes]] = {
            promql.VectorSelector: self._instant,
            promql.MatrixSelector: self._matrix,
            promql.AggregateExpr: self._aggregate,
            promql.BinaryExpr: self._binary,
            promql.Call: self._call,
            promql.ParenExpr: lambda node: self._walk(node.expr),
            promql.UnaryExpr: lambda node: self._walk(node.expr),
            promql.SubqueryExpr: lambda node: self._walk(node.expr),
        }
        step = steps.get(type(node))
        return step(node) if step else ANY

    def _instant(self, node: promql.VectorSelector) -> Shapes:
        if node.name in self._hourly:
            self._say(f"{node.name}: has a sample an hour, which Prometheus forgets: take the last of a range")
        return self._vector(node)

    def _vector(self, node: promql.VectorSelector) -> Shapes:
        shapes = self._shapes.get(node.name or "")
        if shapes is None:
            self._say(f"{node.name}: no such series" if node.name else "a selector without a name: series of several")
            return ANY
        for matcher in node.matchers.matchers:
            if matcher.value != MAY_MATCH_NOTHING:
                self._need({matcher.name}, labels_of(shapes), f"matcher of {node.name}")
            if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe) and _PLAIN.fullmatch(matcher.value):
                self._say(f"{matcher.name}=~{matcher.value!r}: no regular expression")
        return promql_shapes.selected(shapes, node.matchers.matchers) or shapes

    def _matrix(self, node: promql.MatrixSelector) -> Shapes:
        shapes = self._vector(node.vector_selector)
        series = self._series.get(node.vector_selector.name or "")
        if series and node.range.total_seconds() < SAMPLES_IN_A_RANGE * series.every_seconds:
            self._say(f"{node.vector_selector.name}[{node.range}]: shorter than {SAMPLES_IN_A_RANGE} samples")
        return shapes

    def _aggregate(self, node: promql.AggregateExpr) -> Shapes:
        inner = self._walk(node.expr)
        if str(node.op) == "avg" and _is_quantile(node.expr, self._series):
            self._say("an average of quantiles is no quantile")
        if str(node.op) in ("topk", "bottomk"):  # these choose among series, whose labels they leave
            return inner
        if node.modifier is not None:
            by = "by" if node.modifier.type is promql.AggModifierType.By else "without"
            self._need(set(node.modifier.labels), labels_of(inner), f"{node.op} {by}")
        made = promql_shapes.aggregated(inner, node.modifier)
        return promql_shapes.joined(made, node.param.val) if isinstance(node.param, promql.StringLiteral) else made

    def _binary(self, node: promql.BinaryExpr) -> Shapes:
        left, right = self._walk(node.lhs), self._walk(node.rhs)
        if ANY in (left, right):
            return right if left == ANY else left
        matching = node.modifier.matching if node.modifier else None
        if matching is not None and str(node.op) != "or":
            is_on = matching.type is promql.LabelModifierType.Include
            there = labels_of(left) & labels_of(right) if is_on else labels_of(left) | labels_of(right)
            self._need(set(matching.labels), there, f"{node.op} {'on' if is_on else 'ignoring'}")
        made, found = promql_shapes.matched(str(node.op), left, right, node.modifier)
        self._found += found
        return made

    def _call(self, node: promql.Call) -> Shapes:
        name = node.func.name
        shapes = [self._walk(argument) for argument in node.args]
        for selector in (argument for argument in node.args if isinstance(argument, promql.MatrixSelector)):
            self._check_kind(name, selector.vector_selector.name or "")
        if name in COUNTER_FUNCTIONS and any(isinstance(argument, promql.SubqueryExpr) for argument in node.args):
            self._say(f"{name} of a subquery: a sum of counters isn't one, rate comes first")
        if name == "histogram_quantile" and "le" not in labels_of(shapes[-1]):
            self._say("histogram_quantile: `le` was aggregated away")
        if name in ("absent", "absent_over_time"):
            return self._absent(node)
        if name == "vector":
            return NONE
        own = next((found for found in shapes if found != ANY), ANY)
        return self._relabelled(node, own) if name.startswith("label_") else _of_function(name, own)

    def _relabelled(self, node: promql.Call, shapes: Shapes) -> Shapes:
        texts = [argument.val for argument in node.args[1:]]
        if node.func.name == "label_join":
            return promql_shapes.joined(shapes, texts[0])
        made, found = promql_shapes.relabelled(shapes, *texts)
        self._found += found
        return made

    def _check_kind(self, function: str, name: str) -> None:
        kind = self._series[name].kind if name in self._series else "unknown"
        if function in COUNTER_FUNCTIONS and kind not in ("counter", "unknown"):
            self._say(f"{function}({name}): a {kind}, no counter")
        if function in GAUGE_FUNCTIONS and kind not in ("gauge", "unknown"):
            self._say(f"{function}({name}): a {kind}, no gauge")

    def _absent(self, node: promql.Call) -> Shapes:
        argument = node.args[0]
        selector = argument.vector_selector if isinstance(argument, promql.MatrixSelector) else argument
        matchers = selector.matchers.matchers if isinstance(selector, promql.VectorSelector) else []
        if not matchers or any(matcher.op is not promql.MatchOp.Equal for matcher in matchers):
            self._say("absent: only equality matchers become labels of its result")
        return frozenset({shape((), **{matcher.name: matcher.value for matcher in matchers})})

    def _need(self, wanted: set[str], there: Labels, place: str) -> None:
        if "*" not in there and (missing := wanted - there):
            self._say(f"{place}: no label {', '.join(sorted(missing))} there")

    def _say(self, finding: str) -> None:
        self._found.append(finding)


def _of_function(name: str, shapes: Shapes) -> Shapes:
    if name in ("scalar", "time"):
        return ANY
    return promql_shapes.without(shapes, {"le"}) if name == "histogram_quantile" else shapes


def _is_quantile(node: promql.Expr, series: Mapping[str, Series]) -> bool:
    if isinstance(node, promql.VectorSelector):
        named = series.get(node.name or "")
        return named is not None and named.kind == "quantile"
    if isinstance(node, promql.Call):
        return bool(node.func.name == "histogram_quantile")
    return isinstance(node, promql.ParenExpr) and _is_quantile(node.expr, series)
