"""How a child learns that its supervisor is gone, however that ended, SIGKILL included: it is told to end by SIGTERM.

The kernel sends it when the thread that started the child dies, which for our single-threaded supervisor is when the
supervisor does. A supervisor that died before the child could ask for that is found out by the lifeline: standard input
is a pipe that the supervisor alone can write to, and so ends with it. Nothing hangs on process ids, which are used
again. A process that never calls `watch` has no supervisor to lose.
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
    """The supervisor's part: the descriptor to give to each child as standard input, while the block lasts."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def watch(descriptor: int = 0) -> None:
    """The child's part: from now on, SIGTERM comes when the supervisor is gone; at once if it is gone already.

    Args:
        descriptor: the lifeline; standard input by default.
    """
    _watched.add(descriptor)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent_is_gone():
        os.kill(os.getpid(), signal.SIGTERM)


def parent_is_gone() -> bool:
    """Whether this process had a supervisor and has it no more. Never blocks."""
    # Nobody ever writes to the pipe, so that it can be read from means that it has ended.
    readable, _, _ = select.select(_watched, [], [], 0)
    return bool(readable)
