"""Watching an exporter from a terminal: asks for its overview once a second and keeps the screen up to date.

Single-threaded, and it changes nothing. The terminal is as it was when `watch` returns, however it returns.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console, Group
from rich.live import Live

from busmon.errors import ExporterUnreachableError
from busmon.exporter.overview.overview import Overview
from busmon.top import screen
from busmon.top.client import Client

REFRESH_SECONDS = 1.0


def watch(client: Client, console: Console, leave: Callable[[], bool] = lambda: False, hint: str = "") -> None:
    """Show the exporter's overview, a hint below it, until `leave` says so, or the user types q or Ctrl-C."""
    latest: Overview | None = None
    notice = ""
    with _resizes() as resized, _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while not leave():
            asked_at = time.monotonic()
            try:
                latest, notice = client.overview(), ""
            except ExporterUnreachableError as error:
                notice = f"trying again: {error}"
            while True:
                live.update(_picture(latest, notice, console.height, hint), refresh=True)
                seconds = asked_at + REFRESH_SECONDS - time.monotonic()
                ready, _, _ = select.select([*keys, resized], [], [], max(0.0, seconds))
                if keys and keys[0] in ready and os.read(keys[0], 1) in {b"q", b"Q", b"\x03"}:
                    return
                if resized not in ready:
                    break
                os.read(resized, 4096)


def _picture(latest: Overview | None, notice: str, lines: int, hint: str) -> Group:
    picture = screen.frame(latest, notice, lines) if latest else screen.waiting(notice)
    return Group(picture, screen.hint(hint))


@contextmanager
def _keys() -> Iterator[list[int]]:
    """Provide the descriptor of typed keys; none where there is no keyboard."""
    if not sys.stdin.isatty():
        yield []
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield [descriptor]
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _resizes() -> Iterator[int]:
    """Provide a descriptor that becomes readable when the terminal's size changes."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def note(*_: object) -> None:
        with suppress(BlockingIOError):
            os.write(writing, b"\0")

    before = signal.signal(signal.SIGWINCH, note)
    try:
        yield reading
    finally:
        signal.signal(signal.SIGWINCH, before)
        os.close(reading)
        os.close(writing)
