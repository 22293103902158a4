"""The names of settings in the chart's schema, from busmon's own schema: `python -m tests.chart.schema` writes them.

A value of the chart is any setting but passwords, which belong into secrets, and those that the templates set.
"""

import json
import re
from pathlib import Path
from typing import Any

from busmon.settings.schema import SCHEMA

CHART = Path(__file__).parents[2] / "docker/chart"
PATH = CHART / "values.schema.json"

_MAY_HOLD_NONE = frozenset({"dependencies"})
"""Settings that may hold a password and mostly don't."""

_MOUNTED = frozenset({"registry_dir"})
"""Settings whose default is where the templates mount a volume."""

_SET_BY_TEMPLATES = re.compile(r"BUSMON_([A-Z_]+)$|^  ([a-z_]+) = ", re.MULTILINE)


def list_names() -> list[str]:
    """List the settings that are values of the chart."""
    secret = {row.name for row in SCHEMA if row.secret} - _MAY_HOLD_NONE
    return sorted({row.name for row in SCHEMA} - secret - _list_set())


def document() -> dict[str, Any]:
    """Return the chart's schema with these names."""
    found: dict[str, Any] = json.loads(PATH.read_text())
    found["properties"]["settings"]["propertyNames"] = {"enum": list_names()}
    return found


def _list_set() -> set[str]:
    """List the settings that the fleet's templates set, by a variable or in busmon.toml."""
    texts = [path.read_text() for path in sorted((CHART / "templates").glob("_*.tpl"))]
    found = {(variable or name).lower() for text in texts for variable, name in _SET_BY_TEMPLATES.findall(text)}
    return (found & {row.name for row in SCHEMA}) | _MOUNTED


if __name__ == "__main__":
    PATH.write_text(json.dumps(document(), indent=2) + "\n")
