"""Instruments, one line each: message channels, task frameworks, logging, web requests, a prometheus_client registry.

Each needs a `Telemetry`. A framework is imported when its instrument is first asked for, so a program loads only what
it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from busmon.extras import require
from busmon.instrument.channel import instrument_channel
from busmon.instrument.errors_log import ErrorLog
from busmon.instrument.registry import bridge
from busmon.instrument.web import ASGIMiddleware, WSGIMiddleware

if TYPE_CHECKING:
    from busmon.instrument.celery import instrument_celery
    from busmon.instrument.dramatiq import DramatiqMiddleware
    from busmon.instrument.faststream import FastStreamMiddleware
    from busmon.instrument.taskiq import TaskiqTelemetry

__all__ = [
    "ASGIMiddleware",
    "DramatiqMiddleware",
    "ErrorLog",
    "FastStreamMiddleware",
    "TaskiqTelemetry",
    "WSGIMiddleware",
    "bridge",
    "instrument_celery",
    "instrument_channel",
]

_FRAMEWORKS = {
    "DramatiqMiddleware": "dramatiq",
    "FastStreamMiddleware": "faststream",
    "TaskiqTelemetry": "taskiq",
    "instrument_celery": "celery",
}


def __getattr__(name: str) -> Any:
    """Import a framework's instrument when it is first asked for.

    Raises:
        MissingExtraError: the framework isn't installed.
    """
    framework = _FRAMEWORKS.get(name)
    if framework is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require(framework, f"busmon.instrument.{name}")
    return getattr(import_module(f"{__name__}.{framework}"), name)
