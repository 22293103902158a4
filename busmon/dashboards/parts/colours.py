"""Colours of series that no threshold judges: none looks like a verdict, and what is known by name has its own.

Green, yellow and red are for what is judged. Values that a label is known to take have one colour on all dashboards;
names that only a fleet knows, as agents', have Grafana's colour for that name. Pure.
"""

from collections.abc import Collection

PALETTE = ("#5794f2", "#b877d9", "#35b3c9", "#e07fc0", "#3f63c4", "#a38a75", "#8e9bb0", "#a9c4f5")

_KNOWN = (
    (("category", "type"), ("timeout", "validation", "dependency", "resource", "internal")),
    (("type",), ("counter", "gauge", "histogram", "summary")),
    (("type",), ("rabbitmq", "postgres", "redis")),
    (("type",), ("upvote", "downvote")),
    (("priority",), ("low", "normal", "high", "critical")),
    (("operation",), ("select", "insert", "update", "delete")),
    (("trigger",), ("size", "interval", "drain")),
    (("job",), ("busmon", "rabbitmq", "node", "prometheus", "alertmanager")),
    (("shard", "core"), tuple("01234567")),
)
"""Labels, and values that these are known to take."""


def of(legends: Collection[str]) -> dict[str, str]:
    """Set colours by a series' name, for the legends of one panel."""
    colours = dict(zip((legend for legend in legends if "{{" not in legend), PALETTE, strict=False))
    for labels, values in _KNOWN:
        for label in labels:
            for legend in legends:
                if (place := f"{{{{{label}}}}}") in legend:
                    names = (legend.replace(place, value) for value in values)
                    colours |= dict(zip(names, PALETTE, strict=False))
    return colours
