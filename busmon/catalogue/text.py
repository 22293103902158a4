"""The catalogue as text: one family in full, a line for each, Markdown for the docs, JSON for a program.

Pure; any thread, any process.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from busmon.catalogue import example
from busmon.catalogue.catalogue import MEASURED_BY_WORKER, Catalogue
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY, TYPES, Family

_OUTLIVING = "outlives its source"

_MERGES = {
    "latest": ", the latest value of any source",
    "sum": ", the sum over live sources",
    "min": ", the least of live sources",
    "max": ", the greatest of live sources",
    "add": ", all increments added up",
    f"latest, {_OUTLIVING}": ": the latest value of any source, ended ones too",
}

PARTICULARS = {COUNTER: "", GAUGE: "merge", HISTOGRAM: "buckets", SUMMARY: "quantiles"}
"""What only a type has, by type."""


def by_type(catalogue: Catalogue) -> Iterator[tuple[str, list[Family]]]:
    """Yield each type that has families, with its families by name."""
    for type_ in TYPES:
        families = sorted((f for f in catalogue.families.values() if f.type == type_), key=lambda family: family.name)
        if families:
            yield type_, families


def signature(family: Family) -> str:
    """Name and label names, as in `queue_size{queue}`."""
    return f"{family.name}{{{','.join(family.labelnames)}}}" if family.labelnames else family.name


def particulars(family: Family) -> str:
    """Return the value that only the family's type has."""
    if family.type == GAUGE:
        return f"{family.merge}, {_OUTLIVING}" if family.outlives_source else family.merge
    return ", ".join(f"{bound:.15g}" for bound in family.buckets or family.quantiles)


def lines(catalogue: Catalogue) -> str:
    """Write one family a line: type, signature and help, separated by tabs."""
    return "\n".join(
        f"{type_}\t{signature(family)}\t{family.help}" for type_, families in by_type(catalogue) for family in families
    )


def document(catalogue: Catalogue, family: Family) -> dict[str, Any]:
    """Describe a family as JSON: its statements, what follows from them, and its file."""
    derived = {"unit": family.unit, "exposed": family.exposed, "origin": str(catalogue.origins[family.name])}
    return asdict(family) | derived


def in_full(catalogue: Catalogue, family: Family) -> str:
    """Describe one family for a person, with an envelope to copy."""
    rows = [
        ("type", family.type),
        ("help", family.help),
        *((f"label {label}", ", ".join(family.values.get(label, ())) or "any value") for label in family.labelnames),
        ("unit", family.unit),
        (PARTICULARS[family.type], particulars(family) + _MERGES.get(particulars(family), "")),
        *((f"budget of {label}", f"{budget} values") for label, budget in family.budgets.items()),
        ("dropped labels", ", ".join(family.aggregate_away)),
        ("hidden after", f"{family.ttl_seconds:g} s without an update" if family.ttl_seconds else ""),
        ("from", str(catalogue.origins[family.name])),
    ]
    width = max(len(title) for title, _ in rows) + 2
    stated = "\n".join(f"  {title:<{width}}{value}" for title, value in rows if value)
    return f"{family.name}\n{stated}\n\n{_how_to_publish(family)}"


def _how_to_publish(family: Family) -> str:
    if family.internal:
        return "busmon measures it itself, and refuses it from publishers."
    also = "busmon's workers observe it too, for every envelope.\n\n" if family.name in MEASURED_BY_WORKER else ""
    return f"{also}An envelope with it:\n\n{json.dumps(example.envelope(family), indent=2)}"


def markdown(catalogue: Catalogue) -> str:
    """Write a table for each type."""
    return "\n\n".join(_table(type_, families) for type_, families in by_type(catalogue))


def _table(type_: str, families: list[Family]) -> str:
    last = f" {PARTICULARS[type_]} |" if PARTICULARS[type_] else ""
    head = (
        f"### {type_.capitalize()} families\n\n| family | labels | help |{last}\n|---|---|---|{'---|' if last else ''}"
    )
    return "\n".join([head, *(_row(family) + (f" {particulars(family)} |" if last else "") for family in families)])


def _row(family: Family) -> str:
    labels = "; ".join(
        f"`{label}`: {', '.join(family.values[label])}" if label in family.values else f"`{label}`"
        for label in family.labelnames
    )
    return f"| `{family.name}` | {labels} | {family.help}{' (by busmon)' if family.internal else ''} |"
