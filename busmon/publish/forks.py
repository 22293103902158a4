"""Notices that this process was forked from another, by whatever means.

Python's fork hooks run only where Python itself forks. uWSGI forks in C, and so may any program that embeds Python. The
kernel wipes one page of memory in each forked child (`MADV_WIPEONFORK`), and each call of an instrument looks at it:
that costs a third of `getpid`. Any thread; whoever looks first renews the process while the others wait.
"""

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, PAGESIZE, mmap
from threading import RLock
from typing import Protocol

_MADV_WIPEONFORK = 18
"""Linux's number, which Python's `mmap` has no name for."""

_logger = logging.getLogger("busmon")


class Mark(Protocol):
    """One byte that each process sets for itself: 0 in a forked child that nobody has noticed."""

    def __getitem__(self, index: int, /) -> int:
        """Read the byte at 0."""

    def __setitem__(self, index: int, value: int, /) -> None:
        """Set the byte at 0."""


class ProcessIdMark:
    """The mark of a system whose kernel wipes no page: set while the process has the id that it was set with."""

    def __init__(self) -> None:
        self._process_id = 0

    def __getitem__(self, _index: int) -> int:
        return os.getpid() == self._process_id

    def __setitem__(self, _index: int, _value: int) -> None:
        self._process_id = os.getpid()


def new_mark() -> Mark:
    """Make a mark, which is not set yet."""
    try:
        page = mmap(-1, PAGESIZE, flags=MAP_PRIVATE | MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
    except (OSError, ValueError):
        return ProcessIdMark()
    return page


here = new_mark()
"""`here[0]` is 0 in a forked process until `notice` has renewed it."""

here[0] = 1

_forget: list[Callable[[], None]] = []
_renew: list[Callable[[bool], None]] = []
_turns: dict[int, RLock] = {}
_renewing = 0


def on_fork(forget: Callable[[], None], renew: Callable[[bool], None] | None = None) -> None:
    """Have two functions called in a forked process: each one that forgets before any that renews.

    Args:
        forget: drops what belongs to the parent; no instrument is called in the process until it has returned.
        renew: goes on in the child, where instruments may be called; told whether Python made the fork.
    """
    _forget.append(forget)
    if renew is not None:
        _renew.append(renew)


def notice() -> None:
    """Renew this process if it is a fork that nobody has noticed; other threads' calls wait for it."""
    _notice(by_python=False)


def _notice(*, by_python: bool) -> None:
    global _renewing  # noqa: PLW0603 - one process has one state
    process_id = os.getpid()
    # A lock of the parent's may have been held at the fork, so each process has one of its own.
    with _turns.setdefault(process_id, RLock()):
        # A signal handler that interrupts the renewal on its own thread must not begin another.
        if here[0] or _renewing == process_id:
            return
        _renewing = process_id
        _call(_forget)
        here[0] = 1
        _call([partial(renew, by_python) for renew in _renew])
        _renewing = 0


def _call(functions: Iterable[Callable[[], None]]) -> None:
    for function in tuple(functions):
        try:
            function()
        except Exception:  # an agent's call must not fail for its telemetry
            _logger.exception("telemetry can't go on in a forked process")


os.register_at_fork(after_in_child=partial(_notice, by_python=True))
