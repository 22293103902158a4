"""One connection to the broker at a time, opened again with back-off after each loss, until it is closed.

On the thread of the loop. Every way in which a connection can end reaches `lost` or ends `close`, which never takes
longer than `CLOSE_SECONDS`.
"""

from collections.abc import Callable
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.connection import Connection, Parameters
from pika.exceptions import AMQPConnectionError
from pika.frame import Method

from busmon.bus.causes import Cause, of_attempt, of_connection
from busmon.bus.reading import ReadingConnection
from busmon.bus.retry import Retry

CLOSE_SECONDS = 1.0


class Link:
    """A connection that is kept open.

    Args:
        parameters: where to, and under which name.
        ioloop: what the connection runs on.
        opened: called with each connection once it's open.
        lost: called after each failed attempt and each loss, with the cause and the seconds until the next attempt,
            None for no other.
        blocked: called with the broker's reason when it stops reading from this connection, with "" when it resumes.
    """

    def __init__(
        self,
        parameters: Parameters,
        ioloop: IOLoop,
        *,
        opened: Callable[[Connection], None],
        lost: Callable[[Cause, float | None], None],
        blocked: Callable[[str], None],
    ) -> None:
        self._parameters = parameters
        self._ioloop = ioloop
        self._opened = opened
        self._lost = lost
        self._blocked = blocked
        self._retry = Retry(ioloop, self.open)
        self._current: ReadingConnection | None = None
        self._retired = False
        self._closed: Callable[[], None] | None = None
        self._close_timer: Any = None
        self._given_up: Cause | None = None

    @property
    def connection(self) -> Connection | None:
        """The connection, if it's open."""
        return self._current if self._current is not None and self._current.is_open else None

    @property
    def waiting(self) -> bool:
        """Whether the last attempt failed and the next is still to come."""
        return self._retry.pending

    def open(self) -> None:
        """Start to connect."""
        self._current = ReadingConnection(
            self._parameters,
            on_open_callback=self._on_open,
            on_open_error_callback=lambda _, error: self._on_gone(of_attempt(error)),
            on_close_callback=lambda _, error: self._on_gone(of_connection(error)),
            custom_ioloop=self._ioloop,
        )

    def give_up(self, cause: Cause) -> None:
        """Drop the connection for this cause, as if the broker had ended it, and open another."""
        if self._current is not None and self._closed is None:
            self._given_up = cause
            self._drop()

    def retire(self) -> None:
        """Let the next loss be the last: nothing is opened again."""
        self._retired = True
        self._retry.cancel()

    def close(self, closed: Callable[[], None]) -> None:
        """Close in order, or by force when the broker doesn't answer; calls `closed` once it's done."""
        self.retire()
        if self._current is None:
            closed()
            return
        self._closed = closed
        if self._current.is_open:
            self._close_timer = self._ioloop.call_later(CLOSE_SECONDS, self._drop)
            self._current.close()
        else:
            self._drop()

    def _drop(self) -> None:
        # pika's `close` waits for the broker's answer, and during the handshake it fails an assertion of pika's own
        # that ends the loop; there is no other public way to end a connection.
        if self._current is not None:
            self._current._terminate_stream(AMQPConnectionError("dropped"))  # noqa: SLF001

    def _on_open(self, connection: Connection) -> None:
        self._retry.worked()
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
            self._lost(cause, None if self._retired else self._retry.failed())
