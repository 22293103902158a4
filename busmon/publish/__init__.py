"""The agent's side: instruments, batches, confirmed publishes."""

import logging

from busmon.publish.instruments import Counter, Gauge, Histogram, Summary
from busmon.publish.telemetry import Telemetry

__all__ = ["Counter", "Gauge", "Histogram", "Summary", "Telemetry"]

logging.getLogger("busmon").addHandler(logging.NullHandler())
