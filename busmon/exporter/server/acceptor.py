"""The accepting of connections: each newcomer is accepted at once, and begins when its address has a place.

The kernel's queue knows no addresses: a client in it waits for all that came before. A newcomer in the waiting room
costs a descriptor, and has no protocol yet. asyncio's own servers accept whatever waits, and begin it before the first
is served. Two thousand connections at once would so take all descriptors. Lives on the event loop.
"""

import asyncio
import math
import socket
from collections.abc import Callable

import structlog

from busmon.exporter.server.connection import Connection
from busmon.exporter.server.connection_limit import ConnectionLimit, network
from busmon.exporter.server.waiting_room import WaitingRoom

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""Connections that are accepted before others are served: 3 ms."""

_FULL_SECONDS = 0.02
"""How long newcomers wait until there may be a place."""

_FAILED_SECONDS = 1.0
"""How long it waits after the system refused, for want of descriptors or memory."""

_TELL_SECONDS = 60.0
"""How long it is silent after it logged a refusal, since each attempt is refused while descriptors are missing."""


class Acceptor:
    """The accepting side of one socket.

    Args:
        listener: the socket; it stays the caller's.
        limit: of connections.
        room: where newcomers wait.
        make: makes the protocol of a connection from an address, as `network` returns it.
        note_refusal: is called for each newcomer for which there is no room.
    """

    def __init__(
        self,
        listener: socket.socket,
        limit: ConnectionLimit,
        room: WaitingRoom,
        make: Callable[[str], Connection],
        note_refusal: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._limit = limit
        self._room = room
        self._make = make
        self._note_refusal = note_refusal
        self._told_at = -math.inf
        self._pause: asyncio.TimerHandle | None = None
        self._admission: asyncio.Handle | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        listener.settimeout(0)
        self._resume()

    def close(self) -> None:
        """Accept no more."""
        self._loop.remove_reader(self._listener)
        for handle in (self._pause, self._admission):
            if handle:
                handle.cancel()
        self._room.close()

    async def wait_closed(self) -> None:
        """Return at once: nothing is left to wait for."""

    def _resume(self) -> None:
        self._loop.add_reader(self._listener, self._accept)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._pause = self._loop.call_later(seconds, self._resume)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            if not self._room.is_open:
                self._rest(_FULL_SECONDS)
                break
            newcomer = self._take()
            if newcomer is None:
                break
            if excess := self._room.add(*newcomer):
                excess.close()
                self._note_refusal()
        if self._room and self._admission is None:
            self._admit()

    def _admit(self) -> None:
        """Begin one connection in this pass of the loop; the next in the next, or when there may be room again."""
        self._admission = None
        if not self._room:
            return
        address = self._room.next_address(self._limit.count)
        if self._limit.make_room(address):
            self._begin(self._room.take(address), address)
            self._admission = self._loop.call_soon(self._admit)
        else:
            self._admission = self._loop.call_later(_FULL_SECONDS, self._admit)

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
