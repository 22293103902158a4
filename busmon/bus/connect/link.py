"""One connection to the broker at a time, reopened with backoff after each loss, until it is closed.

On the thread of the loop. Every end of a connection calls `lost` or completes `close`. `close` never takes longer
than `CLOSE_SECONDS`.
"""

from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.connection import Connection
from pika.frame import Method

from busmon.bus.connect.causes import Cause, of_attempt, of_connection
from busmon.bus.connect.dialling import Addresses
from busmon.bus.connect.retry import Retry
from busmon.bus.frames.ending import drop
from busmon.bus.frames.workflow import Dialling, Result

CLOSE_SECONDS = 1.0


class Link:
    """A connection that is kept open.

    Args:
        addresses: of the broker.
        ioloop: runs the connection.
        opened: called with each connection once it's open.
        lost: called after each failed attempt and each loss, with the cause and the seconds until the next attempt,
            None for no other.
        blocked: called with the broker's reason when it stops reading from this connection, with "" when it resumes.
    """

    def __init__(
        self,
        addresses: Addresses,
        ioloop: IOLoop,
        *,
        opened: Callable[[Connection], None],
        lost: Callable[[Cause, float | None], None],
        blocked: Callable[[str], None],
    ) -> None:
        self._addresses = addresses
        self._ioloop = ioloop
        self._opened = opened
        self._lost = lost
        self._blocked = blocked
        self._retry = Retry(ioloop, self.open)
        self._dialling: Dialling | None = None
        self._current: Connection | None = None
        self._retired = False
        self._closed: Callable[[], None] | None = None
        self._close_timer: Any = None
        self._given_up: Cause | None = None

    @property
    def connection(self) -> Connection | None:
        """Return the connection, if it's open."""
        return self._current if self._current is not None and self._current.is_open else None

    @property
    def is_waiting(self) -> bool:
        """Return whether the last attempt failed and the next is planned."""
        return self._retry.is_pending

    def open(self) -> None:
        """Start to connect."""
        self._dialling = self._addresses.dial(self._ioloop, self._on_dialled)

    def give_up(self, cause: Cause) -> None:
        """Drop the connection for this cause, as if the broker had closed the connection, and reconnect."""
        if self._is_begun and self._closed is None:
            self._given_up = cause
            self._drop()

    def retire(self) -> None:
        """Stop reconnecting: after the next loss the link stays closed."""
        self._retired = True
        self._retry.cancel()

    def close(self, closed: Callable[[], None]) -> None:
        """Close in order, or by force if the broker doesn't answer; call `closed` at the end."""
        self.retire()
        if not self._is_begun:
            closed()
            return
        self._closed = closed
        if self._current is not None and self._current.is_open:
            self._close_timer = self._ioloop.call_later(CLOSE_SECONDS, self._drop)
            self._current.close()
        else:
            self._drop()

    @property
    def _is_begun(self) -> bool:
        return self._current is not None or self._dialling is not None

    def _drop(self) -> None:
        if self._dialling is not None:
            self._dialling.abort()
        elif self._current is not None:
            drop(self._current)

    def _on_dialled(self, result: Result) -> None:
        self._dialling = None
        if isinstance(result, Connection):
            self._current = result
            result.add_on_close_callback(lambda _, error: self._on_lost(error))
            self._on_open(result)
        else:
            self._on_gone(of_attempt(self._addresses.reasons()))

    def _on_lost(self, error: BaseException) -> None:
        self._addresses.note_lost()
        self._on_gone(of_connection(error))

    def _on_open(self, connection: Connection) -> None:
        self._retry.note_success()
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(lambda *_: self._blocked(""))
        self._opened(connection)

    def _on_blocked(self, _connection: Connection, frame: Method) -> None:
        self._blocked(frame.method.reason or "no reason given")

    def _on_gone(self, cause: Cause) -> None:
        self._current = None
        cause, self._given_up = self._given_up or cause, None
        if self._close_timer is not None:
            self._ioloop.remove_timeout(self._close_timer)
        if self._closed is not None:
            self._closed()
        else:
            self._lost(cause, None if self._retired else self._retry.note_failure())
