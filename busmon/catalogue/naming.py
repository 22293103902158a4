"""Valid names of metrics and labels, and the unit that a name states.

Prometheus' classic character set (its data model, https://prometheus.io/docs/concepts/data_model/), less the names that
Prometheus, its client libraries or busmon give a meaning of their own. Pure functions; any thread, any process.
"""

import re
from collections.abc import Mapping, Sequence

MAX_NAME_CHARACTERS = 200
MAX_LABELS = 32

EXPORTED_LABELS: Mapping[str, str] = {
    label: f"exported_{label}" for label in ("job", "instance", "pid", "le", "quantile")
}
"""Labels that a scrape, a histogram, a summary or a multiprocess file has of its own: a publisher's are renamed so, as
Prometheus does it with the first two."""

EXPORTER_METRICS = frozenset(
    {
        "process_cpu_seconds",
        "process_cpu_seconds_total",
        "process_max_fds",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    }
)
"""Metrics of the exporter's own process, in each scrape."""

BASE_UNITS = frozenset(
    {"seconds", "bytes", "ratio", "celsius", "kelvin", "meters", "metres", "volts", "amperes", "joules", "grams"}
)

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED_PREFIXES = ("busmon_", "scrape_", "__")
_RESERVED_METRICS = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE"})
_PART_SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")


def metric_name_fault(name: str) -> str | None:
    """Say why no metric can have this name, by its characters and length, or return None."""
    if len(name) > MAX_NAME_CHARACTERS or not METRIC_NAME.fullmatch(name):
        return f"a metric's name is 1 to {MAX_NAME_CHARACTERS} letters, digits, '_' or ':', no digit first"
    return None


def is_reserved(name: str) -> bool:
    """Return whether busmon makes the metric (`busmon_*`, `EXPORTER_METRICS`), or Prometheus at a scrape (`up`, …)."""
    return name in _RESERVED_METRICS or name in EXPORTER_METRICS or name.startswith(_RESERVED_PREFIXES)


def export_name(name: str) -> str:
    """Rename a publisher's metric where the exporter has one of this name; any other keeps its name."""
    return f"exported_{name}" if name in EXPORTER_METRICS else name


def label_name_fault(name: str) -> str | None:
    """Say why no label can have this name, by characters, length and the reserved names, or return None."""
    if len(name) > MAX_NAME_CHARACTERS or not LABEL_NAME.fullmatch(name):
        return f"a label's name is 1 to {MAX_NAME_CHARACTERS} letters, digits or '_', no digit first"
    if name.startswith("__"):
        return "names that start with '__' are reserved"
    if name in EXPORTED_LABELS:
        return f"a scrape has it of its own; the label is named {EXPORTED_LABELS[name]!r}"
    return None


def label_names_fault(names: Sequence[str]) -> str | None:
    """Say why no metric can have these labels, or return None: their number, each name, and a name given twice."""
    if len(names) > MAX_LABELS:
        return f"it has {len(names)} labels; at most {MAX_LABELS} are taken"
    if len(set(names)) < len(names):
        return "a label's name is given twice"
    return next((f"label {name[:80]!r}: {fault}" for name in names if (fault := label_name_fault(name))), None)


def unit(name: str) -> str:
    """Return the unit at the end of a metric's name, before `_total` and other suffixes; empty for a plain number."""
    last = _PART_SUFFIX.sub("", name).rpartition("_")[2]
    return last if last in BASE_UNITS or last == "percent" else ""
