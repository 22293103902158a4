"""uWSGI: it forks its workers in C, and before 2.0.30 it runs no thread of Python's unless it is told to.

A worker that uWSGI forks while another thread waits for Python's lock hangs. So a `Telemetry` that is made before the
fork has no thread there, and what it counts until then is for the first worker to publish. Any thread.
"""

import logging
import sys
from collections.abc import Callable
from typing import Any

from busmon.publish import forks

_logger = logging.getLogger("busmon")

_known: list[Any] = []
"""The server's module, once it calls what it must."""


def is_before_fork() -> bool:
    """Tell whether uWSGI has loaded this process' program, and makes the workers later."""
    server = sys.modules.get("uwsgi")  # the server makes this module itself
    return server is not None and server.worker_id() == 0


def inherits() -> bool:
    """Tell whether this process is the one worker that goes on with what was counted before the fork."""
    server = sys.modules.get("uwsgi")
    return server is not None and server.worker_id() == 1 and server.workers()[0]["respawn_count"] == 0


def look(began: Callable[[], None]) -> None:
    """Have a function called in each worker when it begins, and say so where no thread can run; only the first time.

    The worker is noticed as a fork before. Elsewhere than under uWSGI nothing is done.
    """
    server: Any = sys.modules.get("uwsgi")
    if server is None or server in _known:
        return
    _known.append(server)
    if not getattr(server, "has_threads", True):
        _logger.warning(
            "uWSGI runs without threads, so telemetry is published late: at the latest when a worker ends in order. "
            "Start uWSGI with --enable-threads"
        )

    def begin() -> None:
        forks.notice()
        began()

    decorators = sys.modules.get("uwsgidecorators")
    if decorators is not None:
        decorators.postfork_chain.append(begin)
        return
    before = getattr(server, "post_fork_hook", None)

    def after_fork() -> None:
        if before is not None:
            before()
        begin()

    # uWSGI has one such hook; where a program replaces it later, a forked worker is noticed by its first call.
    server.post_fork_hook = after_fork
