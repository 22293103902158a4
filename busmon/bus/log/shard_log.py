"""One shard's log: its stream, read in order, and appended to.

One connection with a channel for each direction, and a loop of its own that turns only inside of `take`. Each loss is
raised once; then the log reconnects with jittered backoff and reads on where it stopped. Belongs to one thread.
"""

from collections import Counter
from time import monotonic
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.connection import Connection

from busmon.bus.connect.causes import Cause, Interruptions, LossCause
from busmon.bus.connect.connection import PIKA_ERRORS
from busmon.bus.connect.dialling import Addresses
from busmon.bus.connect.link import CLOSE_SECONDS, Link
from busmon.bus.log.appending import Appender
from busmon.bus.log.reading import LogEntry, StreamReader
from busmon.errors import LogInterruptedError, LogMissingError, LogReplacedError

BLOCKED_SECONDS = 10.0
"""How long the broker may refuse to read before the fate of what was appended is in doubt."""

_WATCH_SECONDS = 1.0
_ERRORS = {LossCause.QUEUE_MISSING: LogMissingError, LossCause.LOG_REPLACED: LogReplacedError}


class ShardLog:
    """The log of one shard.

    Args:
        amqp_url: the broker.
        name: the connection's name on the broker.
        exchange: leads to the stream.
        stream: the stream's name.
        routing_key: selects the stream at the exchange.

    Raises:
        SettingsError: the URL isn't accepted.
    """

    def __init__(self, amqp_url: str, name: str, *, exchange: str, stream: str, routing_key: str) -> None:
        addresses = Addresses(amqp_url, name)
        # The broker reads what is in the socket of a blocked connection after the alarm, even if the connection was
        # dropped, so a new connection would change nothing.
        for parameters in addresses.of_urls:
            parameters.blocked_connection_timeout = None
        self._loop = IOLoop()
        self._loop.activate_poller()
        self._link = Link(addresses, self._loop, opened=self._on_open, lost=self._on_lost, blocked=self._on_blocked)
        self._reader = StreamReader(stream, self._link.give_up)
        self._appender = Appender(exchange, routing_key, self._link.give_up)
        self._interruptions = Interruptions()
        self._interruption: LogInterruptedError | None = None
        self._told: LossCause | None = None
        self._is_begun = self._is_closed = False
        self._blocked = ""
        self._blocked_timer: Any = None
        self._watched_at = 0.0

    @property
    def reconnects(self) -> Counter[str]:
        """Return how often the log was interrupted, by cause."""
        return self._interruptions.counts

    @property
    def is_connected(self) -> bool:
        """Return whether entries can be appended and are being read."""
        is_open = self._link.connection is not None and self._interruption is None
        return is_open and self._appender.is_ready and self._reader.is_reading and not self._blocked

    def read_from(self, start: int | str, *, is_known: bool = False) -> None:
        """Read from here on, on a new channel; drop the entries that wait (`StreamReader.read_from`)."""
        self._reader.read_from(start, is_known=is_known)

    def take(self, wait_seconds: float) -> list[LogEntry]:
        """Return the entries that have arrived, in order.

        Args:
            wait_seconds: how long to wait for the first; 0 only turns the loop once.

        Raises:
            LogInterruptedError: once for each loss, after the entries that had arrived before. Entries appended by then
                may be in the log, may reach it later, or never. The next call reads on.
            LogMissingError: the stream doesn't exist.
            LogReplacedError: the stream isn't the one that was read, or lost its end; `read_from` begins it again.
        """
        if not self._is_begun:
            self._is_begun = True
            self._watched_at = monotonic()
            self._link.open()
        deadline = monotonic() + wait_seconds
        left = wait_seconds
        while True:
            self._poll(0.0 if self._reader.has_entries or self._interruption else max(left, 0.0))
            self._watch()
            if self._reader.has_entries:
                return self._reader.take()
            if self._interruption is not None:
                interruption, self._interruption = self._interruption, None
                raise interruption
            left = deadline - monotonic()
            if left <= 0:
                return []

    def append(self, body: bytes) -> None:
        """Append an entry; `take` sends it. An entry is in the log once `take` has returned it.

        Raises:
            LogInterruptedError: the log isn't connected.
        """
        if not self.is_connected:
            raise LogInterruptedError(str(self._interruption or self._blocked or "the log isn't connected yet"))
        try:
            self._appender.append(body)
        except PIKA_ERRORS as error:
            raise LogInterruptedError("the connection to the log is being closed") from error

    def close(self) -> None:
        """Close the connection, by force if the broker doesn't answer."""
        if self._is_begun:
            self._link.close(self._on_closed)
            over = monotonic() + 2 * CLOSE_SECONDS
            while not self._is_closed and monotonic() < over:
                self._poll(CLOSE_SECONDS)
        self._loop.deactivate_poller()
        self._loop.close()

    def _poll(self, seconds: float) -> None:
        timer = self._loop.call_later(min(seconds, _WATCH_SECONDS), lambda: None)
        self._loop.poll()
        self._loop.process_timeouts()
        self._loop.remove_timeout(timer)
        if self._told is not None and self.is_connected:
            self._told = None

    def _watch(self) -> None:
        """Check once a second that the broker serves the reader, and reconnect if it does not."""
        now = monotonic()
        elapsed_seconds = now - self._watched_at
        if elapsed_seconds >= _WATCH_SECONDS:
            self._watched_at = now
            if not self._blocked and (cause := self._reader.watch(elapsed_seconds)):
                self._link.give_up(cause)

    def _on_open(self, connection: Connection) -> None:
        self._appender.on_connected(connection)
        self._reader.on_connected(connection)

    def _on_lost(self, cause: Cause, _wait: float | None) -> None:
        self._set_blocked("")
        self._appender.on_disconnected()
        self._reader.on_disconnected()
        self._interrupt(cause)

    def _on_blocked(self, reason: str) -> None:
        self._set_blocked(f"connection_blocked: {reason}" if reason else "")
        if reason:
            cause = Cause(LossCause.CONNECTION_BLOCKED, reason)
            self._blocked_timer = self._loop.call_later(BLOCKED_SECONDS, lambda: self._interrupt(cause))

    def _set_blocked(self, reason: str) -> None:
        self._blocked = reason
        if self._blocked_timer is not None:
            self._loop.remove_timeout(self._blocked_timer)
            self._blocked_timer = None

    def _interrupt(self, cause: Cause) -> None:
        """Have the next `take` raise the cause, unless it was raised and this is only a failed attempt after it."""
        self._interruptions.count(cause.name)
        if cause.name == self._told:
            return
        self._told = cause.name
        self._interruption = _ERRORS.get(cause.name, LogInterruptedError)(str(cause))

    def _on_closed(self) -> None:
        self._is_closed = True
