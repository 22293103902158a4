"""The lifeline of a child: SIGTERM at any end of its supervisor, SIGKILL included.

The kernel sends SIGTERM when the thread that started the child ends; the supervisor has only one thread. If the
supervisor ended before the child could ask the kernel, the lifeline shows it: standard input is a pipe that only the
supervisor can write to, so the pipe ends with the supervisor. Nothing depends on process ids, which the kernel reuses.
A process that never calls `watch` has no supervisor.
"""

import ctypes
import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

_watched: set[int] = set()


@contextmanager
def lifeline() -> Iterator[int]:
    """Yield the descriptor that the supervisor gives to each child as standard input."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def watch(descriptor: int = 0) -> None:
    """Have SIGTERM sent to this child when the supervisor is gone; at once if it is gone already.

    Args:
        descriptor: the lifeline; standard input by default.
    """
    _watched.add(descriptor)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent_is_gone():
        os.kill(os.getpid(), signal.SIGTERM)


def parent_is_gone() -> bool:
    """Return whether this process had a supervisor that is gone. Never blocks."""
    # Nobody writes to the pipe, so a readable pipe has ended.
    readable, _, _ = select.select(_watched, [], [], 0)
    return bool(readable)
