"""Valid names of metrics and labels, and the unit that a name states.

Prometheus' classic character set (its data model, https://prometheus.io/docs/concepts/data_model/), less the names that
Prometheus, its client libraries or busmon give a meaning of their own, and those that other programs' metrics have in
busmon's alerts. Pure functions; any thread, any process.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

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

RULED_METRICS = frozenset(
    {
        "alertmanager_notifications_failed_total",
        "node_cpu_seconds_total",
        "node_disk_io_time_seconds_total",
        "node_disk_read_bytes_total",
        "node_disk_written_bytes_total",
        "node_filesystem_avail_bytes",
        "node_filesystem_size_bytes",
        "node_memory_MemAvailable_bytes",
        "node_memory_MemTotal_bytes",
        "node_network_receive_bytes_total",
        "node_network_transmit_bytes_total",
        "prometheus_config_last_reload_successful",
        "prometheus_notifications_alertmanagers_discovered",
        "prometheus_rule_evaluation_failures_total",
        "rabbitmq_alarms_file_descriptor_limit",
        "rabbitmq_alarms_free_disk_space_watermark",
        "rabbitmq_alarms_memory_used_watermark",
    }
)
"""Metrics of other programs in busmon's rules, which name no job: a publisher that brought one in could make an alert
fire or hold it back. A catalogue may name them."""

BASE_UNITS = frozenset(
    {"seconds", "bytes", "ratio", "celsius", "kelvin", "meters", "metres", "volts", "amperes", "joules", "grams"}
)

EXPOSED_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
"""A metric's name in a scrape, that of a recording rule included."""

_METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_RESERVED_PREFIXES = ("busmon_", "scrape_", "__")
_RESERVED_METRICS = frozenset({"up", "ALERTS", "ALERTS_FOR_STATE"})
_NO_COLON = "':' is for the names of recording rules"
_COUNTER_SUFFIX = "_total"
_PART_SUFFIX = re.compile(r"_(total|bucket|count|sum|created)$")


def metric_name_fault(name: str) -> str | None:
    """Say why no metric can have this name, by its characters and length, or return None."""
    if len(name) > MAX_NAME_CHARACTERS or not _METRIC_NAME.fullmatch(name):
        colon = f", and {_NO_COLON}" if ":" in name else ""
        return f"a metric's name is 1 to {MAX_NAME_CHARACTERS} letters, digits or '_', no digit first{colon}"
    if name == _COUNTER_SUFFIX:
        return f"no name is left before a counter's {_COUNTER_SUFFIX!r}"
    return None


def is_reserved(name: str) -> bool:
    """Return whether busmon makes the metric (`busmon_*`, `EXPORTER_METRICS`), or Prometheus at a scrape (`up`, …)."""
    return name in _RESERVED_METRICS or name in EXPORTER_METRICS or name.startswith(_RESERVED_PREFIXES)


def adoption_fault(name: str, exposed: Iterable[str]) -> str | None:
    """Say why no publisher alone may bring in a metric, whose series would pass for those of another; or return None.

    Args:
        name: the metric's.
        exposed: all names that it has in a scrape.
    """
    if ":" in name:
        return _NO_COLON
    for taken in (name, *exposed):
        if is_reserved(taken):
            way_out = "; Telemetry.watch_process publishes this process's" if taken in EXPORTER_METRICS else ""
            return f"busmon or Prometheus makes {'it' if taken == name else repr(taken)}{way_out}"
        if taken in RULED_METRICS:
            return f"busmon's alerts take {taken!r} from another program; name the metric in a catalogue, or otherwise"
    return None


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
