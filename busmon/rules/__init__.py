"""Prometheus' rules as data: recordings and alerts in TOML, their numbers in one file, written as Prometheus reads it.

`groups/` holds the expressions, `thresholds.toml` every number; a user changes a number and builds. Pure: reads
files, writes only where `build.write` is told to, and knows neither Prometheus nor the fleet.
"""

from busmon.rules.build import build, differences, write
from busmon.rules.definitions import Alert, Group, Recording, read
from busmon.rules.thresholds import Thresholds

__all__ = ["Alert", "Group", "Recording", "Thresholds", "build", "differences", "read", "write"]
