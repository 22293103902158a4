"""Points of other formats: the family and the labels of each.

A mapping rule of the catalogue decides, by the name that the producer has; without one, the format's own way of naming.
A family that is known takes the labels that it has, from the point and then from what its part says of its source;
other labels of a counter, histogram or summary are added up over, of a gauge they aren't. Pure; one thread.
"""

from collections import ChainMap
from collections.abc import Iterator, Mapping
from typing import Any

from busmon.catalogue.family import GAUGE, HISTOGRAM, SUMMARY, Family
from busmon.catalogue.mapping import label_name
from busmon.catalogue.naming import MAX_NAME_CHARACTERS, export_name
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission.families import Families
from busmon.registry.fold.routes import Candidate
from busmon.sample_checks import event_time
from busmon.wire.arrival import MAX_METRIC_CHARACTERS
from busmon.wire.envelope import ADD, MOVE, SET, SIGNED, Observed, Part, Point
from busmon.wire.json_v1 import UNKNOWN_AGENT

AGENT_LABEL = "agent"
_LONG_NAME = f"the name has at most {MAX_METRIC_CHARACTERS} characters"
_LONG_LABEL = f"a label's name has at most {MAX_NAME_CHARACTERS} characters"


class Points:
    """The translation of points to samples of the fleet's families."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._context: dict[str, str] = {}
        self._named: dict[str, str] = {}

    def begin(self, part: Part) -> None:
        """Begin a part: what the part says of its source is looked at once, not for each point."""
        self._context = {AGENT_LABEL: part.agent, **part.context}
        self._named = {
            label_name(label): value for label, value in self._context.items() if len(label) <= MAX_NAME_CHARACTERS
        }

    def translate(self, point: Point, part: Part) -> dict[str, Any]:
        """Return the name, type, op and labels, as a sample of the wire format states them.

        Raises:
            RejectedError: `invalid_name` or `invalid_label`: one is too long to be remembered.
        """
        if len(point.name) > MAX_METRIC_CHARACTERS:
            raise RejectedError(SampleReason.INVALID_NAME, _LONG_NAME)
        if any(len(label) > MAX_NAME_CHARACTERS for label in point.labels):
            raise RejectedError(SampleReason.INVALID_LABEL, _LONG_LABEL)
        name, labels = point.family, _rename_labels(point.labels)
        if (rule := self._families.mappings.find(point.name)) is not None:
            said = ChainMap(dict(point.labels), self._context)
            name, labels = rule.apply(point.name, said, labels)
        name = export_name(name)
        family = self._families.get(name)
        if family is not None:
            return _of_family(point, family, labels, self._named)
        if part.agent != UNKNOWN_AGENT:
            labels.setdefault(AGENT_LABEL, part.agent)
        type_ = point.type or GAUGE
        return {"name": name, "type": type_, "op": _op(type_, point, is_adding=point.op == MOVE), "labels": labels}


def of_point(stated: Mapping[str, Any]) -> Iterator[Candidate]:
    """Yield a point's label values and value."""
    yield tuple(stated["labels"].values()), stated["value"]


def point_time(point: Point, at: float, now: float) -> float:
    """Return when a point was measured; its envelope's time if it doesn't say, and now if it says it will be.

    Raises:
        RejectedError: `invalid_timestamp`.
    """
    return at if point.at is None else event_time(point.at, now)


def _rename_labels(said: Mapping[str, str]) -> dict[str, str]:
    """Rename a producer's labels; values of those that become one are joined by `;`, as OpenTelemetry has it."""
    labels = {label_name(label): value for label, value in said.items()}
    if len(labels) < len(said):
        labels = {}
        for label, value in sorted(said.items()):
            name = label_name(label)
            labels[name] = f"{labels[name]};{value}" if name in labels else value
    return labels


def _of_family(point: Point, family: Family, labels: Mapping[str, str], named: Mapping[str, str]) -> dict[str, Any]:
    kept = {label: value for label in family.labelnames if (value := labels.get(label, named.get(label))) is not None}
    if family.type == GAUGE:
        kept = {**labels, **kept}
    type_ = family.type if _may_be(family.type, point) else point.type or GAUGE
    op = _op(family.type, point, is_adding=family.merge == "add")
    return {"name": family.name, "type": type_, "op": op, "labels": kept}


def _may_be(type_: str, point: Point) -> bool:
    """Return whether a point can be of a family of this type: observations are a histogram's or a summary's."""
    if point.type in {HISTOGRAM, SUMMARY}:
        return type_ == HISTOGRAM if _has_buckets(point) else type_ in {HISTOGRAM, SUMMARY}
    if point.type is None and point.op is not None:
        return type_ not in {HISTOGRAM, SUMMARY}
    return point.type in {None, type_}


def _has_buckets(point: Point) -> bool:
    return isinstance(point.value, Observed) and bool(point.value.buckets)


def _op(type_: str, point: Point, *, is_adding: bool) -> str | None:
    """Decide on the op that the wire format has, where the point leaves that to its family."""
    if type_ != GAUGE:
        return None
    if point.op in {MOVE, SIGNED}:
        return ADD if is_adding else SET
    return point.op
