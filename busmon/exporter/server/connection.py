"""A connection to the exporter that can't be held for nothing: its handshake, its requests, and its reading of answers.

uvicorn's own but for what it lacks: an absolute deadline for a handshake and a request's head and body, a bound on
connections at which the idlest makes room, and TLS by what the files say at that moment, as exporter-toolkit has it,
where uvicorn keeps one context for good. Lives on the event loop.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from busmon.exporter.access import tls
from busmon.exporter.access.access import Access

REQUEST_SECONDS = 10
"""How long a connection may stay without a request under way, or with half of one, at least; at most twice as long."""


class Connection(H11Protocol):
    """One connection.

    Args:
        access: the terms that it has to meet.
        most: how many there may be; the idlest makes room for one more.
        of_uvicorn: whatever uvicorn gives its protocols.
    """

    def __init__(self, access: Access, most: int, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._access = access
        self._most = most
        self._clock: asyncio.TimerHandle | None = None
        self._idle_since = self._stalled_since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin. asyncio calls this at the accept, and with TLS again after the handshake, with TLS's transport."""
        super().connection_made(transport)
        terms = self._access.terms
        if self._clock is None:
            self._clock = self.loop.call_later(REQUEST_SECONDS, self._look, None)
            self._make_room()
            if terms.context:
                _Handshake(self, terms.context).begin(transport)
        elif (
            terms.client_names.isdisjoint(tls.names(transport.get_extra_info("peercert") or {})) and terms.client_names
        ):
            self._cut("name")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.forget()
        super().connection_lost(exc)

    def forget(self) -> None:
        """Stop counting the connection. After a failed handshake nothing else does."""
        self.connections.discard(self)
        if self._clock:
            self._clock.cancel()

    def on_response_complete(self) -> None:
        """Note that the connection is idle from now on."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Note that the client doesn't read from now on."""
        self._stalled_since = self.loop.time()
        super().pause_writing()

    @property
    def is_idle(self) -> bool:
        """True while no complete request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def expendability(self) -> tuple[bool, bool, float]:
        """Rank the connection for making room: the idlest first, then those whose clients have not read for longest."""
        now = self.loop.time()
        if self.is_idle:
            return True, True, now - self._idle_since
        return False, self.flow.write_paused, now - self._stalled_since

    def _make_room(self) -> None:
        """Cut one connection off where there are too many, never one whose client reads its answer."""
        if len(self.connections) <= self._most:
            return
        others = [each for each in self.connections if isinstance(each, Connection) and each is not self]
        idlest = max(others, key=Connection.expendability, default=self)
        (idlest if any(idlest.expendability()[:2]) else self)._cut("crowded")  # noqa: SLF001 - its own class's

    def _look(self, before: object) -> None:
        """Cut the connection off if it asked nothing since the last look and awaits no answer, or it doesn't close."""
        if self.transport.is_closing() or (self.cycle is before and self.is_idle):
            self._cut("slow")
            return
        self._clock = self.loop.call_later(REQUEST_SECONDS, self._look, self.cycle)

    def _cut(self, reason: str) -> None:
        self._access.cut[reason] += 1
        self.transport.abort()
        self.forget()


class _Handshake(SSLProtocol):
    """TLS between a socket and a connection, as `loop.create_server` puts it there, but with a context of its own.

    `loop.start_tls` is for a stream that goes on; it may hand over the first request before it says that it is done.
    """

    def __init__(self, connection: Connection, context: ssl.SSLContext) -> None:
        super().__init__(
            connection.loop,
            connection,
            context,
            waiter=None,  # type: ignore[arg-type]  # asyncio's own servers give none either
            server_side=True,
            ssl_handshake_timeout=REQUEST_SECONDS,
            ssl_shutdown_timeout=REQUEST_SECONDS,
        )
        self._connection = connection

    def begin(self, transport: asyncio.Transport) -> None:
        """Take the transport over."""
        transport.set_protocol(self)
        self.connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the connection, even after a failed handshake."""
        super().connection_lost(exc)
        self._connection.forget()
