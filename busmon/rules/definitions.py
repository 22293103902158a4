"""Definition files → groups of recordings and alerts, with every number and window filled in.

`${window}` is the group's, `${key}` the alert's own threshold, `${Alert.key}` another's. A placeholder that nothing
fills is an error, so no rule is ever built with a hole. Reads files and does nothing else.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from busmon.errors import RulesError
from busmon.rules.thresholds import DURATIONS, Thresholds, Value, document

DIRECTORY = Path(__file__).with_name("groups")

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


@dataclass(frozen=True, slots=True)
class Recording:
    """A recorded expression.

    Attributes:
        name: `level:metric:operations`.
        expr: PromQL.
    """

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert.

    Attributes:
        name: the alert's, and its runbook's.
        expr: PromQL; what it gives is firing.
        durations: `for` and `keep_firing_for`, those that it has.
        labels: `tier` (`P1` wakes somebody at once, `P2` waits for working hours, `P3` wakes nobody; the Watchdog has
            `none`), `service` where the expression's result has none, and its own.
        annotations: `summary`, `description`, `runbook_url`, `dashboard_url`.
    """

    name: str
    expr: str
    durations: Mapping[str, str] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that Prometheus evaluates together, in this order, every `interval`."""

    name: str
    interval: str
    rules: tuple[Recording | Alert, ...]


def read(thresholds: Thresholds) -> dict[str, list[Group]]:
    """Read every definition file's groups, by the file's stem.

    Raises:
        RulesError: a placeholder has no value.
    """
    return {
        path.stem: [group for table in document(path)["group"] for group in _groups(table, thresholds)]
        for path in sorted(DIRECTORY.glob("*.toml"))
    }


def _groups(table: Mapping[str, Any], thresholds: Thresholds) -> Iterator[Group]:
    """Yield the group, once for each of its windows."""
    for window, interval in table.get("windows", {"": table.get("interval")}).items():
        recordings = [_recording(row, {"window": window}) for row in table.get("record", ())]
        alerts = [_alert(row, thresholds) for row in table.get("alert", ())]
        yield Group(f"{table['name']}-{window}".rstrip("-"), interval, (*recordings, *alerts))


def _recording(row: Mapping[str, str], values: Mapping[str, Value]) -> Recording:
    return Recording(_fill(row["name"], values), _fill(row["expr"], values).strip())


def _alert(row: Mapping[str, Any], thresholds: Thresholds) -> Alert:
    name = row["name"]
    own = thresholds.of(name)
    values = {f"{table}.{key}": value for table, pairs in thresholds.tables.items() for key, value in pairs.items()}
    values |= own
    said = {"summary": row["summary"], "description": row["description"].strip()}
    links = {
        "runbook_url": "${links.runbooks}/" + f"{name}.md",
        "dashboard_url": "${links.dashboards}/" + row["dashboard"],
    }
    return Alert(
        name,
        _fill(row["expr"], values).strip(),
        {key: str(own[key]) for key in DURATIONS if key in own},
        {"tier": row["tier"], **{key: row[key] for key in ("service",) if key in row}, **row.get("labels", {})},
        {key: _fill(text, values) for key, text in (said | links).items()},
    )


def _fill(text: str, values: Mapping[str, Value]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise RulesError(f"{text!r}: expected a threshold for {match[0]}")
        return str(values[match[1]])

    return _PLACEHOLDER.sub(value, text)
