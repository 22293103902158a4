"""An envelope for a family, as a publisher could send it: what to copy from. Any thread, any process."""

import secrets
from typing import Any

from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, Family


def envelope(family: Family) -> dict[str, Any]:
    """Make a whole envelope with one sample of the family; its source is another each time, as that of each run is."""
    return {"v": 1, "source": f"my-agent-{secrets.token_hex(8)}", "agent": "my-agent", "samples": [sample(family)]}


def sample(family: Family) -> dict[str, Any]:
    """Return a valid sample of the family."""
    labels = {label: family.values.get(label, (f"my-{label}",))[0] for label in family.labelnames}
    return {"name": family.name, "type": family.type} | ({"labels": labels} if labels else {}) | _make_cell(family)


def _make_cell(family: Family) -> dict[str, Any]:
    if family.type == COUNTER:
        return {"value": 1}
    if family.type == GAUGE:
        return {"op": "add", "value": 1} if family.merge == "add" else {"value": 1}
    if family.type == HISTOGRAM:
        return {"values": sorted({family.buckets[0], family.buckets[-1]})}
    return {"values": [512, 2048]}
