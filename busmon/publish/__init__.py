"""The agent's side: instruments, batches, confirmed publishes."""

from busmon.publish.instruments import Counter, Gauge, Histogram, Summary
from busmon.publish.telemetry import Telemetry

__all__ = ["Counter", "Gauge", "Histogram", "Summary", "Telemetry"]
