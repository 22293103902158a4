"""A logging handler that counts what is logged as an error. Any thread."""

import logging

from busmon.publish import Telemetry


class ErrorLog(logging.Handler):
    """Counts records in `errors_total{type, severity}`: `logging.getLogger().addHandler(ErrorLog(telemetry))`.

    The type is the name of the exception that was logged, else of the logger; the severity is warning, error or
    critical.

    Args:
        telemetry: what publishes the count.
        level: the least that counts.
    """

    def __init__(self, telemetry: Telemetry, level: int = logging.WARNING) -> None:
        super().__init__(level)
        self._errors = telemetry.counter("errors_total", "", ["type", "severity"], domain="error")

    def emit(self, record: logging.LogRecord) -> None:
        """Count a record."""
        kind = record.exc_info[0] if record.exc_info else None
        self._errors.labels(kind.__name__ if kind else record.name, _severity(record.levelno)).inc()


def _severity(level: int) -> str:
    if level >= logging.CRITICAL:
        return "critical"
    return "error" if level >= logging.ERROR else "warning"
