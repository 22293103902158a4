"""What a service would otherwise instrument by hand: pika channels, logging, web requests, a registry.

Each is one line in a program that has a `Telemetry`. Nothing here imports a library that the program doesn't use.
"""

from busmon.instrument.channel import instrument_channel
from busmon.instrument.errors_log import ErrorLog
from busmon.instrument.registry import bridge
from busmon.instrument.web import ASGIMiddleware, WSGIMiddleware

__all__ = ["ASGIMiddleware", "ErrorLog", "WSGIMiddleware", "bridge", "instrument_channel"]
