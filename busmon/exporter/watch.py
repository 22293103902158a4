"""Watching an exporter from a terminal: asks for its overview once a second and keeps the screen up to date.

Single-threaded, and it changes nothing. The terminal is as it was when `watch` returns, however it returns.
"""

import http.client
import json
import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live

from busmon.errors import ExporterUnreachableError
from busmon.exporter import screen
from busmon.exporter.overview import Overview

REFRESH_SECONDS = 1.0

_TIMEOUT_SECONDS = 5.0
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - turned into loopback, not listened on


class Client:
    """Asks one exporter.

    Args:
        listen: the exporter's `HOST:PORT`, as in its settings.
    """

    def __init__(self, listen: str) -> None:
        host, _, port = listen.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self.address = listen

    def overview(self) -> Overview:
        """What the exporter shows now.

        Raises:
            ExporterUnreachableError: nothing answers there, or not as an exporter does.
        """
        status, body = self.get("/overview")
        if status == http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ExporterUnreachableError(f"the exporter at {self.address} can't answer: its log says why")
        try:
            return Overview.from_json(json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            line = f"what answers at {self.address} is no busmon exporter of this version"
            raise ExporterUnreachableError(f"{line}; name another with --listen HOST:PORT") from error

    def get(self, path: str) -> tuple[int, bytes]:
        """An answer's status and body.

        Raises:
            ExporterUnreachableError: nothing answers there.
        """
        host = _ANY_HOST.get(self._host, self._host)
        connection = http.client.HTTPConnection(host, self._port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            line = (
                f"no exporter answers at {self.address}: start one with `busmon up`, or name it with --listen HOST:PORT"
            )
            raise ExporterUnreachableError(line) from error
        finally:
            connection.close()


def watch(client: Client, console: Console, leave: Callable[[], bool] = lambda: False) -> None:
    """Show the exporter's overview until `leave` says so, or the user types q or Ctrl-C."""
    latest: Overview | None = None
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while not leave():
            try:
                latest = client.overview()
                picture = screen.frame(latest)
            except ExporterUnreachableError as error:
                notice = f"trying again: {error}"
                picture = screen.frame(latest, notice) if latest else screen.waiting(notice)
            live.update(Group(picture, screen.hint()), refresh=True)
            if pressed(REFRESH_SECONDS) in {"q", "Q", "\x03"}:
                return


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key, with the terminal giving keys as they are typed."""
    if not sys.stdin.isatty():
        yield _no_key
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode(errors="replace") if ready else ""

    try:
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _no_key(seconds: float) -> str:
    """There is no keyboard: only wait."""
    select.select([], [], [], seconds)
    return ""
