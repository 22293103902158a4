"""A connection to the exporter that can't be held for nothing: its handshake, its requests, and its reading of answers.

uvicorn's own but for what it lacks: an absolute deadline for a handshake and a request's head and body, a place among
others, turns of its address, one answer for those who send requests ahead, and TLS by what the files say at that
moment, as exporter-toolkit has it, where uvicorn keeps one context for good. Lives on the event loop.
"""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from typing import Any

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import CLOSE_HEADER
from uvicorn.protocols.http.h11_impl import H11Protocol

from busmon.exporter.access import tls
from busmon.exporter.access.access import Access
from busmon.exporter.overview.viewers import ENDLESS, HALF_CLOSED
from busmon.exporter.server.connection_limit import ConnectionLimit, State
from busmon.exporter.server.turns import Turns

REQUEST_SECONDS = 10
"""How long a connection may stay without a request under way, or with half of one, at least; at most twice as long."""


class Connection(H11Protocol):
    """One connection.

    Args:
        access: the terms that it has to meet.
        limit: where it counts, from before it begins until its end.
        turns: of all requests.
        address: the client's, as `network` returns it.
        of_uvicorn: whatever uvicorn gives its protocols.
    """

    def __init__(self, access: Access, limit: ConnectionLimit, turns: Turns, address: str, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._answer, self.app = self.app, self._take_turns
        self._turns = turns
        self._answering: asyncio.Task[None] | None = None
        self.address = address
        self.since = self.loop.time()
        self._access = access
        self._limit = limit
        self._clock: asyncio.TimerHandle | None = None
        self._is_socket_full = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin. asyncio calls this at the accept, and with TLS again after the handshake, with TLS's transport."""
        super().connection_made(transport)
        is_accepted = self._clock is None
        # Writing is so paused exactly while this transport holds bytes. The socket's is paused beyond its limit, TLS's
        # at its limit: of zero, for good. What TLS's handed over to the socket's, `_Handshake` tells.
        transport.set_write_buffer_limits(high=0 if is_accepted else 1, low=0)
        terms = self._access.terms
        if is_accepted:
            self._clock = self.loop.call_later(REQUEST_SECONDS, self._look, None)
            if terms.context:
                _Handshake(self, terms.context).begin(transport)
        elif (
            terms.client_names.isdisjoint(tls.names(transport.get_extra_info("peercert") or {})) and terms.client_names
        ):
            self.cut("name")
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection, and cancel its answer, which would hold memory and take turns."""
        self.forget()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # after a reset uvicorn leaves its timer, which holds the connection
        if self._answering:
            self._answering.cancel()

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it
        """Answer a client that closed its sending side, as `nc -N` does. TLS has no such state.

        An endless answer ends: its client has left, most likely, and would be missed only at the next piece.
        """
        if self._is_answered or self.scheme == "https" or self.cycle.scope["state"].get(ENDLESS):
            return False
        self.cycle.scope["state"][HALF_CLOSED] = True
        self._close_after_answer()
        return True

    def forget(self) -> None:
        """Stop counting the connection. After a failed handshake nothing else does."""
        self.app = self._answer  # the bound method would hold the connection
        self.connections.discard(self)
        self._limit.leave(self)
        if self._clock:
            self._clock.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request.

        The answer is the last where the client sends more before it, or where a newcomer waits for the place.
        """
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._note()
        is_last = self.conn.trailing_data[0] or self._limit.wants_place_of(self.address)
        if not self._is_answered and self.cycle.keep_alive and is_last:
            self._close_after_answer()

    def on_response_complete(self) -> None:
        """Note that the connection is idle from now on."""
        super().on_response_complete()
        self._note()

    def pause_writing(self) -> None:
        """Note that the client doesn't read from now on."""
        super().pause_writing()
        self._note()

    def resume_writing(self) -> None:
        """Note that the client has read."""
        super().resume_writing()
        self._note()

    def note_socket(self, *, full: bool) -> None:
        """Note whether the client leaves encrypted bytes in the way, which TLS handed over to the socket."""
        self._is_socket_full = full
        self._note()

    @property
    def state(self) -> State:
        """Return the present state."""
        if self._clock is None:
            return State.BUSY  # accepted, and not begun
        if self.flow.write_paused or self._is_socket_full:
            return State.STALLED
        if not self._is_answered:
            return State.BUSY
        return State.KEPT if self.cycle else State.ASKING

    @property
    def _is_answered(self) -> bool:
        """Return whether no complete request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def cut(self, reason: str) -> None:
        """End the connection at once."""
        self._access.note_cut(reason)
        self.transport.abort()
        self.forget()

    async def _take_turns(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._answering = asyncio.current_task()
        await self._turns.run(self.address, self._answer(scope, receive, send))

    def _close_after_answer(self) -> None:
        self.headers.append(CLOSE_HEADER)  # as if the client had asked for it, so that the answer says so
        self.cycle.keep_alive = False

    def _note(self) -> None:
        self.since = self.loop.time()
        self._limit.note(self)

    def _look(self, before: object) -> None:
        """Cut the connection off if it asked nothing since the last look and awaits no answer, or it doesn't close."""
        if self.transport.is_closing() or (self.cycle is before and self._is_answered):
            self.cut("slow")
            return
        self._clock = self.loop.call_later(REQUEST_SECONDS, self._look, self.cycle)


class _Handshake(SSLProtocol):
    """TLS between a socket and a connection, as `loop.create_server` puts it there, but with a context of its own.

    `loop.start_tls` is for a stream that goes on; it may hand over the first request before it says that it is done.
    """

    max_size = 16_384
    """The size of each connection's buffer for what the client sends; asyncio's own takes 256 KiB."""

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

    def pause_writing(self) -> None:
        """Tell the connection, whose own writing goes on while TLS takes it."""
        super().pause_writing()
        self._connection.note_socket(full=True)

    def resume_writing(self) -> None:
        """Tell the connection, before TLS writes further, which may fill the socket again."""
        self._connection.note_socket(full=False)
        super().resume_writing()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Tell the connection, even after a failed handshake.

        The connection's transport is TLS's, which holds this object: without the `del`, a cycle that holds all buffers.
        """
        super().connection_lost(exc)
        self._connection.forget()
        del self._connection
