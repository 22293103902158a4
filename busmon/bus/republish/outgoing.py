"""The fleet's second connection, which publishes each body again until the broker has stored it.

Under a memory or disk alarm the broker stops reading from every connection that has published. Acks on such a
connection would wait for the alarm's end, so nothing is consumed here. The connection is opened at the first publish
and has a channel for each exchange: an exchange that refuses delays no other. On the thread of the loop.
"""

from collections.abc import Callable

import structlog
from pika.adapters.select_connection import IOLoop
from pika.connection import Connection

from busmon.bus.connect.causes import Cause, Interruptions, LossCause
from busmon.bus.connect.dialling import Addresses
from busmon.bus.connect.link import Link
from busmon.bus.connect.repeats import Repeats
from busmon.bus.republish.outlet import Outlet

_log = structlog.get_logger(__name__)


class Outgoing:
    """The connection, and the outlets on it.

    Args:
        addresses: of the broker.
        ioloop: runs the connection.
        interruptions: counted up by cause at each loss and each refusal.
        blocked: called with the broker's reason when it stops reading, with "" when it resumes.
        user_id: the connection's user; None if it isn't known.

    Attributes:
        user_id: as given; None once the broker has refused it, as it knows the user by another name than the URL.
    """

    def __init__(
        self,
        addresses: Addresses,
        ioloop: IOLoop,
        interruptions: Interruptions,
        blocked: Callable[[str], None],
        *,
        user_id: str | None,
    ) -> None:
        self.user_id = user_id
        # The broker reads a publish in the socket of a blocked connection after the alarm, even if the connection was
        # dropped. A retry on the next connection would only store the body twice.
        for parameters in addresses.of_urls:
            parameters.blocked_connection_timeout = None
        self._ioloop = ioloop
        self._interruptions = interruptions
        self._tell_blocked = blocked
        self._link = Link(addresses, ioloop, opened=self._on_open, lost=self._on_lost, blocked=self._on_blocked)
        self._repeats = Repeats()
        self._outlets: list[Outlet] = []
        self._started = False
        self._flushed: Callable[[], None] | None = None

    def outlet(self, exchange: str, refused_as: LossCause, refused: Callable[[Cause], None]) -> Outlet:
        """Make an outlet to an exchange.

        Args:
            exchange: published to.
            refused_as: the cause that `interruptions` counts for a returned or nacked body.
            refused: called with the cause when a publish is refused and the retry planned.
        """

        def on_refused(cause: Cause) -> None:
            if "user_id" in cause.detail:
                self.user_id = None
            refused(cause)

        outlet = Outlet(exchange, refused_as, self._ioloop, self._interruptions, on_refused, self._advance)
        self._outlets.append(outlet)
        return outlet

    def forget(self, queue: str) -> None:
        """Send nothing more of this queue, and report no confirm: the broker redelivers the queue's deliveries."""
        for outlet in self._outlets:
            outlet.forget(queue)
        self._end_flush()

    def watch(self, elapsed_seconds: float) -> None:
        """Reconnect if the broker leaves a request on an outlet's channel unanswered for too long."""
        silent = [outlet.watch(elapsed_seconds) for outlet in self._outlets]
        if cause := next(filter(None, silent), None):
            self._link.give_up(cause)

    def flush(self, done: Callable[[], None]) -> None:
        """Call `done` once all publishes are confirmed, or as soon as no confirm can be expected."""
        self._flushed = done
        self._end_flush()

    def close(self, done: Callable[[], None]) -> None:
        """Close the connection; call `done` once the connection is closed."""
        for outlet in self._outlets:
            outlet.stop()
        self._link.close(done)

    def _advance(self) -> None:
        """Note that an outlet has something to send, or less than before."""
        if not self._started:
            self._started = True
            self._link.open()
        self._end_flush()

    def _on_open(self, connection: Connection) -> None:
        _log.info("outgoing.connected")
        self._repeats.end()
        for outlet in self._outlets:
            outlet.on_connected(connection)

    def _on_lost(self, cause: Cause, wait: float | None) -> None:
        self._interruptions.count(cause.name)
        if self._repeats.is_due(cause):
            _log.warning("outgoing.connection_lost", cause=cause.name, detail=cause.detail, retry_in_seconds=wait)
        for outlet in self._outlets:
            outlet.on_disconnected()
        self._tell_blocked("")
        self._end_flush()

    def _on_blocked(self, reason: str) -> None:
        if reason:
            self._interruptions.count(LossCause.CONNECTION_BLOCKED)
            _log.warning("outgoing.connection_blocked", reason=reason)
        else:
            _log.info("outgoing.connection_unblocked")
        self._tell_blocked(reason)
        for outlet in self._outlets:
            outlet.block(reason)

    def _end_flush(self) -> None:
        if self._flushed is None:
            return
        if self._link.is_waiting or not any(outlet.is_moving for outlet in self._outlets):
            done, self._flushed = self._flushed, None
            done()
