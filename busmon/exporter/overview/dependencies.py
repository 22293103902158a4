"""The fleet's dependencies as rows for a person: the readiness document's services, checks and resources.

Pure. The document's own words are kept; each row has a severity in addition. A word that isn't known to be good counts
as bad.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from busmon.plurals import duration

GOOD, FAIR, BAD = "good", "fair", "bad"

_GOOD_STATES = frozenset({"connected", "available", "complete", "true", "ok"})
_FAIR_STATES = frozenset({"high", "pending", "unknown"})


@dataclass(frozen=True, slots=True)
class Dependency:
    """One service, check or resource.

    Attributes:
        kind: `service`, `check` or `resource`.
        state: in the document's words.
        severity: `good`, `fair` or `bad`; a service that isn't required is never worse than fair.
        age_seconds: of the result; None where it is of this moment.
        detail: what else is known of it; may be empty.
    """

    name: str
    kind: str
    state: str
    severity: str
    age_seconds: float | None = None
    detail: str = ""


def dependencies(ready: Mapping[str, Any]) -> Iterator[Dependency]:
    """Yield the rows of a readiness document."""
    details = ready.get("dependencies", {})
    for name, state in ready.get("services", {}).items():
        detail = details.get(name, {})
        severity = _severity(state, required=detail.get("required", True))
        yield Dependency(name, "service", state, severity, detail.get("age_seconds"), _of_service(detail))
    for name, state in ready.get("checks", {}).items():
        yield Dependency(name, "check", state, _severity(state))
    for name, usage in ready.get("resources", {}).items():
        share = f"{usage['ratio']:.0%} used (limit {usage['threshold']:.0%})"
        yield Dependency(name, "resource", usage["state"], _severity(usage["state"]), usage.get("age_seconds"), share)


def _severity(state: str, *, required: bool = True) -> str:
    if state in _GOOD_STATES:
        return GOOD
    return FAIR if state in _FAIR_STATES or not required else BAD


def _of_service(detail: Mapping[str, Any]) -> str:
    """Describe a service: the cause if it is down, else an open circuit breaker, else the time that its answer took."""
    if detail.get("cause"):
        return str(detail["cause"])
    if detail.get("breaker", "closed") not in {"closed", None}:
        return f"circuit breaker {str(detail['breaker']).replace('_', ' ')}"
    seconds = detail.get("duration_seconds")
    return "" if seconds is None else f"answers in {duration(seconds)}"
