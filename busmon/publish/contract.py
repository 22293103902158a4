"""The agent's checks of a metric's name and labels, before anything is sent; the fleet checks them too.

The catalogue here may lack a file that the fleet has; `BUSMON_CATALOGUE` gives the agent the same. Pure; any thread.
"""

import re
from collections.abc import Sequence

from busmon.catalogue import Catalogue, Family, naming
from busmon.catalogue.family import COUNTER
from busmon.errors import AdoptionError

_WORD = re.compile(r"[A-Za-z0-9_-]{1,100}")


def word(text: str, what: str) -> str:
    """Convert a text to a word of a routing key, which has dots between its words.

    Raises:
        ValueError: it can't be one; `what` says what it is.
    """
    if not _WORD.fullmatch(text):
        raise ValueError(f"{what} {text[:80]!r}: expected 1 to 100 letters, digits, '_' or '-'")
    return text


def family_of(
    catalogue: Catalogue, name: str, type_: str, labelnames: Sequence[str], *, outlives_source: bool = False
) -> Family:
    """Find the family that an instrument of this type and these labels publishes to.

    Raises:
        ValueError: the catalogue says otherwise, or no metric can be named, typed or labelled so.
    """
    family = catalogue.families.get(name)
    if family is None:
        return _unknown(catalogue, name, type_, labelnames, outlives_source=outlives_source)
    if family.internal:
        raise ValueError(f"{name}: busmon measures it itself")
    if family.type != type_:
        raise ValueError(f"{name}: the catalogue has it as a {family.type}, not a {type_}")
    if sorted(export_labels(labelnames)) != sorted(family.labelnames):
        raise ValueError(f"{name}: by the catalogue its labels are [{', '.join(family.labelnames)}]")
    if outlives_source and not family.outlives_source:
        raise ValueError(f"{name}: by the catalogue it doesn't outlive its source")
    return family


def full_name(catalogue: Catalogue, name: str, type_: str | None) -> str:
    """Return the published name: a counter's ends with `_total`, as in prometheus_client.

    Raises:
        ValueError: no metric can be named so.
    """
    if fault := naming.metric_name_fault(name):
        raise ValueError(f"{name[:80]!r}: {fault}")
    return name if type_ != COUNTER or name in catalogue.families or name.endswith("_total") else f"{name}_total"


def op_of(family: Family) -> str | None:
    """Return the `op` that samples of a family must state; None if they need none."""
    return "add" if family.merge == "add" else None


def export_labels(labelnames: Sequence[str]) -> list[str]:
    """Return the label names as the fleet exposes them."""
    return [naming.EXPORTED_LABELS.get(labelname, labelname) for labelname in labelnames]


def _unknown(
    catalogue: Catalogue, name: str, type_: str, labelnames: Sequence[str], *, outlives_source: bool
) -> Family:
    try:
        return catalogue.adopt(name, type_, export_labels(labelnames), outlives_source=outlives_source)
    except AdoptionError as error:
        raise ValueError(error.detail) from error
