"""Logging of the fleet's processes, set up once by the command that starts one; importing this changes nothing.

Everything goes to stderr through `logging`: a log line that can't be written, because the terminal or the reader of a
pipe is gone, is dropped there and never raises into a worker. Every line carries the process it comes from.
"""

import atexit
import json
import logging
import os
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from busmon.printable import escape, escape_json
from busmon.settings import Settings

_OF_SEVERAL_LINES = frozenset({"exception", "stack"})


def configure(settings: Settings, process: str, **bound: Any) -> None:
    """Log this process's lines as the settings say.

    Args:
        settings: `log_level` and `log_format` are used.
        process: `supervisor`, `worker` or `exporter`.
        bound: further keys of each line, such as the worker's number.
    """
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _binder({"process": process, **bound}),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_ending(console=console)],
        )
    )
    atexit.register(_drop_unwritten)
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(settings.log_level.upper())
    # pika reports at ERROR, with tracebacks, what it then raises; the bus names each of those once, in words.
    logging.getLogger("pika").setLevel(logging.INFO if settings.log_level == "debug" else logging.CRITICAL)
    # asyncio warns of each write to a client that is gone: as many lines as the clients like.
    logging.getLogger("asyncio").setLevel(logging.ERROR)


def _drop_unwritten() -> None:
    """Discard output that a closed terminal will never take: Python would end with status 120 for it."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _binder(bound: dict[str, Any]) -> Processor:
    """Bind values to every line, after its own keys; context variables don't reach a thread that starts later."""

    def bind(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {**{key: line[key] for key in ("timestamp", "level", "event")}, **bound, **line}

    return bind


def _ending(*, console: bool) -> list[Processor]:
    # The pretty formatter would show local variables, and so a broker's password.
    plain = structlog.processors.format_exc_info
    if not console:
        return [plain, structlog.processors.JSONRenderer(_write_json)]
    formatter = structlog.dev.plain_traceback
    return [plain, _escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=formatter)]


def _escape(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """Escape the texts of a line, since a publisher may have chosen them; values of other kinds are shown by `repr`."""
    return {escape(key): _escape_lines(key, value) if isinstance(value, str) else value for key, value in line.items()}


def _escape_lines(key: str, text: str) -> str:
    """Escape a text; a traceback keeps its lines, indented, so that none of them can pass for a line of the log."""
    if key not in _OF_SEVERAL_LINES:
        return escape(text)
    return "\n".join(f"  {escape(part)}" for part in text.split("\n"))


def _write_json(line: EventDict, **options: Any) -> str:
    return escape_json(json.dumps(line, ensure_ascii=False, **options))
