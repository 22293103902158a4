"""The acceptor where the system grants no more descriptors."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from busmon.exporter.server import acceptor
from busmon.exporter.server.acceptor import Acceptor
from busmon.exporter.server.connection import Connection
from busmon.exporter.server.connection_limit import ConnectionLimit
from busmon.exporter.server.waiting_room import WaitingRoom

PATIENCE_SECONDS = 30
ATTEMPTS = 5


class Listener(socket.socket):
    """A listener that counts how often it is asked for a connection."""

    asked = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        return super().accept()


@contextmanager
def no_descriptor() -> Iterator[None]:
    """Have the system grant this process no further descriptor."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))


def never(_: str) -> Connection:
    raise AssertionError


@pytest.mark.parametrize("is_minute_over", [False, True])
def test_missing_descriptors_are_logged_at_first_and_then_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, *, is_minute_over: bool
) -> None:
    monkeypatch.setattr(acceptor, "_FAILED_SECONDS", 0.01)
    if is_minute_over:
        monkeypatch.setattr(acceptor, "_TELL_SECONDS", 0.0)

    async def play() -> int:
        with Listener() as listener, socket.socket() as client:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            client.connect(listener.getsockname())
            with no_descriptor():
                now = asyncio.get_running_loop().time
                refused = Acceptor(listener, ConnectionLimit(8, now), WaitingRoom(8, now), never, lambda: None)
                while listener.asked < ATTEMPTS:  # noqa: ASYNC110 - nothing tells of an attempt
                    await asyncio.sleep(0.001)
                refused.close()
            return listener.asked

    with capture_logs() as logged:
        asked = asyncio.run(asyncio.wait_for(play(), PATIENCE_SECONDS))
    assert [line["event"] for line in logged] == ["acceptor.accept_failed"] * (asked if is_minute_over else 1)
