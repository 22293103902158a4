"""Signals as a queue: the interpreter's handler writes each number to a pipe, and one loop reads them in its turn.

Nothing runs inside a signal handler, so nothing is interrupted halfway. No signal is missed between a read and a wait,
since an earlier signal is in the pipe already. Main thread only.
"""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_PIPE_READ_BYTES = 4096


class Inbox:
    """The received signals, in order; a loop of another kind can watch the inbox like a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor that becomes readable with a signal."""
        return self._descriptor

    def wait(self, seconds: float) -> list[signal.Signals]:
        """Wait for signals, for at most so many seconds; return the received signals."""
        readable, _, _ = select.select([self._descriptor], [], [], seconds)
        return [signal.Signals(number) for number in os.read(self._descriptor, _PIPE_READ_BYTES)] if readable else []


@contextmanager
def inbox(*numbers: signal.Signals) -> Iterator[Inbox]:
    """Receive these signals until the block ends."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, _note) for number in numbers}
    outer = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield Inbox(reading)
    finally:
        signal.set_wakeup_fd(outer)
        for number, previous in before.items():
            signal.signal(number, previous)
        os.close(reading)
        os.close(writing)


def _note(*_: object) -> None:
    """Do nothing: the signal's number is in the pipe."""
