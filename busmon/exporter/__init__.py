"""The HTTP side: metrics, health, readiness, overview, and the terminal's view of the overview."""

from busmon.exporter.server import run

__all__ = ["run"]
