"""A linter of PromQL: what Prometheus accepts and answers with nothing, or with a wrong number.

`Lint.findings` takes one expression; dashboards give theirs with Grafana's variables in it. What it knows of series
comes from known_metrics; recorded ones are learnt in the order in which they are recorded, with the labels that their
expressions leave. An expression is walked once, from its leaves up.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import promql_parser as promql

from tests.stack.known_metrics import Series

SAMPLES_IN_A_RANGE = 4
COUNTER_FUNCTIONS = {"rate", "irate", "increase", "resets"}
GAUGE_FUNCTIONS = {"deriv", "delta", "idelta", "predict_linear"}
MAY_MATCH_NOTHING = "$agent"
"""A variable whose All matches a label that isn't there, as fleets' series have it on purpose."""
ANY = frozenset({"*"})
"""The labels of what has any: a scalar's, a time's."""

_QUANTILE_NAME = re.compile(r":p\d\d")
_PLAIN = re.compile(r"[\w-]*")
_VARIABLES = (
    (re.compile(r"\$(__rate_interval|__interval|\{__rate_interval\}|\{__interval\})"), "1m"),
    (re.compile(r"\$(__range|\{__range\})"), "1h"),
)

Labels = frozenset[str]


class Lint:
    """Findings about expressions, one line each.

    Args:
        series: what there is, by name; recorded ones are added to it.
    """

    def __init__(self, series: Mapping[str, Series]) -> None:
        self._series = dict(series)
        self._found: list[str] = []

    def findings(self, expression: str) -> list[str]:
        """What is wrong with an expression, of a rule or a panel."""
        self._look(expression)
        return self._found

    def labels(self, expression: str) -> Labels:
        """The labels that its result may have."""
        return self._look(expression)

    def alert_findings(self, expression: str, *, has_for: bool, used_labels: Iterable[str]) -> list[str]:
        """What is wrong with an alert's expression, and with the labels that its texts use."""
        labels = self._look(expression)
        found = self._found
        if re.search(r"\b(topk|bottomk)\b", expression):
            found.append("topk: its series come and go, and an alert starts anew with each")
        if has_for and "_over_time" in expression:
            found.append("*_over_time with `for`: waits twice")
        if not re.search(r"==|!=|<|>|\babsent\(|\bvector\(", expression):
            found.append("no comparison: it fires whenever there is a series")
        known = labels | {"job", "instance", "alertname"}
        return found + [f"$labels.{name}: the result has no such label" for name in used_labels if name not in known]

    def record(self, name: str, expression: str, every_seconds: float) -> list[str]:
        """What is wrong with a recorded expression; its name is known from here on."""
        labels = self._look(expression)
        self._series[name] = Series("quantile" if _QUANTILE_NAME.search(name) else "gauge", labels, every_seconds)
        return self._found

    def _look(self, expression: str) -> Labels:
        self._found = []
        for pattern, value in _VARIABLES:
            expression = pattern.sub(value, expression)
        try:
            tree = promql.parse(expression)
        except ValueError as error:
            self._found.append(f"doesn't parse: {error}")
            return ANY
        return self._walk(tree)

    def _walk(self, node: promql.Expr) -> Labels:
        steps: dict[type, Callable[[Any], Labels]] = {
            promql.VectorSelector: self._vector,
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

    def _vector(self, node: promql.VectorSelector) -> Labels:
        series = self._series.get(node.name or "")
        if series is None:
            self._say(f"{node.name}: no such series")
            return ANY
        for matcher in node.matchers.matchers:
            if matcher.value != MAY_MATCH_NOTHING:
                self._need({matcher.name}, series.labels, f"matcher of {node.name}")
            if matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe) and _PLAIN.fullmatch(matcher.value):
                self._say(f"{matcher.name}=~{matcher.value!r}: no regular expression")
        return series.labels

    def _matrix(self, node: promql.MatrixSelector) -> Labels:
        labels = self._vector(node.vector_selector)
        series = self._series.get(node.vector_selector.name or "")
        if series and node.range.total_seconds() < SAMPLES_IN_A_RANGE * series.every_seconds:
            self._say(f"{node.vector_selector.name}[{node.range}]: shorter than {SAMPLES_IN_A_RANGE} samples")
        return labels

    def _aggregate(self, node: promql.AggregateExpr) -> Labels:
        inner = self._walk(node.expr)
        if str(node.op) == "avg" and _is_quantile(node.expr, self._series):
            self._say("an average of quantiles is no quantile")
        if str(node.op) in ("topk", "bottomk"):  # these choose among series, whose labels they leave
            return inner
        if node.modifier is None:
            return frozenset()
        named = set(node.modifier.labels)
        if node.modifier.type is promql.AggModifierType.By:
            self._need(named, inner, f"{node.op} by")
            return frozenset(named)
        self._need(named, inner, f"{node.op} without")
        return inner - named

    def _binary(self, node: promql.BinaryExpr) -> Labels:
        left, right = self._walk(node.lhs), self._walk(node.rhs)
        if ANY in (left, right):
            return right if left == ANY else left
        matching = node.modifier.matching if node.modifier else None
        self._check_matching(node, left, right, matching)
        if str(node.op) == "or":
            return left | right
        if str(node.op) in ("and", "unless") or not matching:
            return left
        return left - set(matching.labels) if matching.type is promql.LabelModifierType.Exclude else left

    def _check_matching(
        self, node: promql.BinaryExpr, left: Labels, right: Labels, matching: promql.LabelModifier | None
    ) -> None:
        if str(node.op) == "or":
            return
        if matching is None and left != right:
            self._say(f"{node.op}: never match: {sorted(left)} and {sorted(right)}")
        if matching is not None and matching.type is promql.LabelModifierType.Include:
            self._need(set(matching.labels), left & right, f"{node.op} on")
        if matching is not None and matching.type is promql.LabelModifierType.Exclude:
            self._need(set(matching.labels), left | right, f"{node.op} ignoring")

    def _call(self, node: promql.Call) -> Labels:
        name = node.func.name
        labels = [self._walk(argument) for argument in node.args]
        selectors = [argument for argument in node.args if isinstance(argument, promql.MatrixSelector)]
        for selector in selectors:
            self._check_kind(name, selector.vector_selector.name or "")
        if name in COUNTER_FUNCTIONS and any(isinstance(argument, promql.SubqueryExpr) for argument in node.args):
            self._say(f"{name} of a subquery: a sum of counters isn't one, rate comes first")
        if name == "histogram_quantile" and "le" not in labels[-1]:
            self._say("histogram_quantile: `le` was aggregated away")
        if name in ("absent", "absent_over_time"):
            return self._absent(node)
        own = [found for found in labels if found != ANY]
        return (own[0] - {"le"} if name == "histogram_quantile" else own[0]) if own else ANY

    def _check_kind(self, function: str, name: str) -> None:
        kind = self._series[name].kind if name in self._series else "unknown"
        if function in COUNTER_FUNCTIONS and kind not in ("counter", "unknown"):
            self._say(f"{function}({name}): a {kind}, no counter")
        if function in GAUGE_FUNCTIONS and kind not in ("gauge", "unknown"):
            self._say(f"{function}({name}): a {kind}, no gauge")

    def _absent(self, node: promql.Call) -> Labels:
        argument = node.args[0]
        selector = argument.vector_selector if isinstance(argument, promql.MatrixSelector) else argument
        matchers = selector.matchers.matchers if isinstance(selector, promql.VectorSelector) else []
        if not matchers or any(matcher.op is not promql.MatchOp.Equal for matcher in matchers):
            self._say("absent: only equality matchers become labels of its result")
        return frozenset(matcher.name for matcher in matchers)

    def _need(self, wanted: set[str], there: Labels, place: str) -> None:
        if there != ANY and (missing := wanted - there):
            self._say(f"{place}: no label {', '.join(sorted(missing))} there")

    def _say(self, finding: str) -> None:
        self._found.append(finding)


def _is_quantile(node: promql.Expr, series: Mapping[str, Series]) -> bool:
    if isinstance(node, promql.VectorSelector):
        named = series.get(node.name or "")
        return named is not None and named.kind == "quantile"
    if isinstance(node, promql.Call):
        return bool(node.func.name == "histogram_quantile")
    return isinstance(node, promql.ParenExpr) and _is_quantile(node.expr, series)
