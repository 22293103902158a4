"""The accepting of connections: a few at a time, and only while there is room; the others wait in the kernel's queue.

asyncio's own servers accept whatever waits, up to the length of that queue, before the first of them is served or cut
off. Two thousand connections at once would so take all descriptors. Lives on the event loop.
"""

import asyncio
import math
import socket
from collections.abc import Callable

import structlog

from busmon.exporter.server.connection import Connection
from busmon.exporter.server.connection_limit import ConnectionLimit, network

log = structlog.get_logger(__name__)

AT_ONCE = 32
"""Connections that are accepted before others are served: 5 ms."""

_FULL_SECONDS = 0.02
"""How long it waits for a place."""

_FAILED_SECONDS = 1.0
"""How long it waits after the system refused, for want of descriptors or memory."""

_TELL_SECONDS = 60.0
"""How long it is silent after it logged a refusal, since each attempt is refused while descriptors are missing."""


class Acceptor:
    """The accepting side of one socket.

    Args:
        listener: the socket; it stays the caller's.
        limit: of connections.
        make: makes the protocol of a connection from an address, as `network` returns it.
    """

    def __init__(self, listener: socket.socket, limit: ConnectionLimit, make: Callable[[str], Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._limit = limit
        self._make = make
        self._told_at = -math.inf
        self._pause: asyncio.TimerHandle | None = None
        self._newcomer: tuple[socket.socket, str] | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        listener.settimeout(0)
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._listener)
        if self._pause:
            self._pause.cancel()
        if self._newcomer:
            self._newcomer[0].close()

    async def wait_closed(self) -> None:
        """Return at once: nothing is left to wait for."""

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)
        if self._newcomer:
            self._accept()

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            self._newcomer = self._newcomer or self._take()
            if self._newcomer is None:
                return
            if not self._limit.make_room():
                self._rest(_FULL_SECONDS)
                return
            self._begin(*self._newcomer)
            self._newcomer = None

    def _take(self) -> tuple[socket.socket, str] | None:
        """Take the next connection from the kernel's queue, with the client's address; None if there is none."""
        try:
            accepted, address = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return None
        except OSError as error:
            self._tell(error)
            self._rest(_FAILED_SECONDS)
            return None
        return accepted, network(address[0])

    def _tell(self, error: OSError) -> None:
        if self._loop.time() - self._told_at >= _TELL_SECONDS:
            self._told_at = self._loop.time()
            log.warning("acceptor.accept_failed", cause=str(error))

    def _begin(self, accepted: socket.socket, address: str) -> None:
        connection = self._make(address)
        self._limit.enter(connection)
        task = self._loop.create_task(self._connect(accepted, connection))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted)
        except OSError:
            accepted.close()
            connection.forget()
