"""The fleet's second connection: what it publishes, each body again until the broker has stored it.

Under a memory or disk alarm the broker stops reading from every connection that has published, and acks sent on it
would wait for the alarm's end; so nothing is consumed here. Opened at first need, with a channel for each exchange: one
that refuses holds up no other. On the thread of the loop.
"""

from collections import Counter
from collections.abc import Callable

import structlog
from pika.adapters.select_connection import IOLoop
from pika.connection import Connection, Parameters

from busmon.bus.causes import Cause
from busmon.bus.link import Link
from busmon.bus.outlet import Outlet

_log = structlog.get_logger(__name__)


class Outgoing:
    """The connection, and the outlets on it.

    Args:
        parameters: where to connect, and under which name.
        ioloop: what the connection runs on.
        interruptions: counted up by cause at each loss and each refusal.
        blocked: called with the broker's reason when it stops reading, with "" when it resumes.
    """

    def __init__(
        self, parameters: Parameters, ioloop: IOLoop, interruptions: Counter[str], blocked: Callable[[str], None]
    ) -> None:
        # A publish that waits in the socket of a blocked connection is read after the alarm even if the connection is
        # given up: publishing it again on the next one would only store it twice.
        parameters.blocked_connection_timeout = None
        self._ioloop = ioloop
        self._interruptions = interruptions
        self._tell_blocked = blocked
        self._link = Link(parameters, ioloop, opened=self._on_open, lost=self._on_lost, blocked=self._on_blocked)
        self._outlets: list[Outlet] = []
        self._started = False
        self._flushed: Callable[[], None] | None = None

    def outlet(self, exchange: str, refused_as: str, refused: Callable[[Cause], None]) -> Outlet:
        """A way to an exchange.

        Args:
            exchange: published to.
            refused_as: what `interruptions` counts a returned or nacked body as.
            refused: called with the cause when something is refused and the next try planned.
        """
        outlet = Outlet(exchange, refused_as, self._ioloop, self._interruptions, refused, self._advance)
        self._outlets.append(outlet)
        return outlet

    def forget(self, queue: str) -> None:
        """Send nothing more of this queue, and tell nobody of what was sent: its deliveries will come again."""
        for outlet in self._outlets:
            outlet.forget(queue)
        self._end_flush()

    def watch(self, elapsed_seconds: float) -> None:
        """Open another connection if the broker leaves a question on an outlet's channel unanswered for too long."""
        silent = [outlet.watch(elapsed_seconds) for outlet in self._outlets]
        if cause := next(filter(None, silent), None):
            self._link.give_up(cause)

    def flush(self, done: Callable[[], None]) -> None:
        """Call `done` once all is confirmed, or as soon as it's clear that it won't be for now."""
        self._flushed = done
        self._end_flush()

    def close(self, done: Callable[[], None]) -> None:
        """Close the connection; calls `done` once it's closed."""
        for outlet in self._outlets:
            outlet.stop()
        self._link.close(done)

    def _advance(self) -> None:
        """An outlet has something to send, or has come further with it."""
        if not self._started:
            self._started = True
            self._link.open()
        self._end_flush()

    def _on_open(self, connection: Connection) -> None:
        _log.info("outgoing.connected")
        for outlet in self._outlets:
            outlet.connected(connection)

    def _on_lost(self, cause: Cause, wait: float | None) -> None:
        self._interruptions[cause.name] += 1
        _log.warning("outgoing.connection_lost", cause=cause.name, detail=cause.detail, retry_in_seconds=wait)
        for outlet in self._outlets:
            outlet.disconnected()
        self._tell_blocked("")
        self._end_flush()

    def _on_blocked(self, reason: str) -> None:
        if reason:
            self._interruptions["connection_blocked"] += 1
            _log.warning("outgoing.connection_blocked", reason=reason)
        else:
            _log.info("outgoing.connection_unblocked")
        self._tell_blocked(reason)
        for outlet in self._outlets:
            outlet.block(reason)

    def _end_flush(self) -> None:
        if self._flushed is None:
            return
        if self._link.waiting or not any(outlet.moving for outlet in self._outlets):
            done, self._flushed = self._flushed, None
            done()
