"""One round after the other: take what was gathered, seal it, and have every envelope confirmed.

While envelopes wait for the broker nothing more is taken, since series fold what they gather and envelopes would pile
up; except of observations that can't be folded, once they fill half of their room. Belongs to the publishing thread.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import NamedTuple

from busmon.bus.connect.retry import reconnect_waits
from busmon.bus.publish.publisher import ConfirmedPublisher
from busmon.errors import SpoolError
from busmon.publish.batch import LIFECYCLE, Origin, Row, Sealed, Table, farewell, heartbeat, seal
from busmon.publish.outbox import Outbox
from busmon.publish.series import Series
from busmon.publish.spool import Spool
from busmon.settings import Settings

_DROPPED = Table("busmon_publisher_dropped_total", ("agent",), domain=LIFECYCLE)

_logger = logging.getLogger("busmon")


class Left(NamedTuple):
    """Samples that aren't confirmed when a source ends: `kept` on disk for the agent's next start, or `lost`."""

    kept: int
    lost: int


class Rounds:
    """Everything that one source sends; `confirmed` is called with each body that is stored."""

    def __init__(
        self,
        origin: Origin,
        series: Series,
        settings: Settings,
        publisher: ConfirmedPublisher,
        confirmed: Callable[[bytes], None],
    ) -> None:
        self._origin = origin
        self._series = series
        self._settings = settings
        self._silence_seconds = series.shared.resend_seconds
        self._publisher = publisher
        publisher.meanwhile = self._relieve
        self._confirmed = confirmed
        self._spools = settings.spool_dir / origin.agent
        self._outbox = Outbox(
            origin,
            settings.exchange,
            publisher,
            settings.publish_buffer_bytes,
            spool=Spool(self._spools, origin.source) if settings.spool_bytes else None,
            max_spool_bytes=settings.spool_bytes,
            confirmed=self._note_confirmed,
        )
        self._inherited: list[Outbox] | None = None
        self._dropped = 0
        self._sent_at = monotonic()
        self._was_heard = False
        self._waits = reconnect_waits()

    def publish(self) -> None:
        """Have everything confirmed that was gathered until now, and the source's life if there was nothing.

        Raises:
            BusError: something isn't confirmed, and is kept.
        """
        if self._inherited is None:
            self._inherited = self._find()
        self._send(self._outbox)
        self._gather()
        if not self._outbox and monotonic() - self._sent_at >= self._silence_seconds:
            self._outbox.put(heartbeat(self._origin, time()))
        self._send(self._outbox)
        self._send_inherited()
        self._waits = reconnect_waits()

    def back_off(self) -> float:
        """Return the seconds to wait after a failure."""
        return next(self._waits)

    def idle(self) -> None:
        """Answer the broker's heartbeats between rounds, whose loss the next publish finds, and relieve the memory."""
        self._relieve()
        with suppress(Exception):
            self._publisher.idle(0)

    def end_waits_at(self, moment: float) -> None:
        """Let nothing wait for the broker beyond a moment of the monotonic clock; for any thread."""
        self._publisher.end_waits_at(moment)

    def close(self) -> Left:
        """Take leave and close the connection; what isn't confirmed goes to disk."""
        with suppress(Exception):  # the fleet finds out by the source's silence, only later
            self._take_leave()
        self._gather()
        if self._outbox.samples:  # a sign of life alone is worth no file
            self._outbox.spill()
        left = Left(self._outbox.spooled_samples, self._outbox.samples + self._outbox.dropped)
        for outbox in self._outboxes():
            outbox.close()
        self._publisher.close()
        return left

    def abandon(self) -> None:
        """Forget it all in a forked child.

        The parent's connection is left open: closing it would take leave of the broker in the parent's name.
        """
        for outbox in self._outboxes():
            outbox.abandon()

    def _relieve(self) -> None:
        """Seal what can't be folded before there is too much, however long the broker keeps this thread waiting."""
        shared = self._series.shared
        if shared.values > shared.max_values // 2:
            self._gather()

    def _take_leave(self) -> None:
        """Have the source's gauges leave the scrape at once; not while something waits, which may yet be sent again."""
        if self._was_heard and not self._outbox:
            self._outbox.put(farewell(self._origin, time()))
            self._send(self._outbox)

    def _gather(self) -> None:
        """Seal what the series have, and how much was dropped."""
        rows, discarded = self._series.take(time())
        dropped, self._dropped = self._dropped + discarded, 0
        for outbox in self._outboxes():
            dropped += outbox.dropped
            outbox.dropped = 0
        if dropped:
            rows.append(Row(_DROPPED, (self._origin.agent,), dropped, samples=dropped))
        for sealed in seal(self._origin, time(), rows):
            self._outbox.put(sealed)

    @staticmethod
    def _send(outbox: Outbox) -> None:
        outbox.send()
        outbox.settle()

    def _send_inherited(self) -> None:
        """Send what processes of this agent that are gone had left on disk, each under its own source."""
        while self._inherited:
            outbox = self._inherited[0]
            self._send(outbox)
            # The source was heard again, but its process is gone: its gauges are not to stay for the presence TTL.
            outbox.put(farewell(outbox.origin, time()))
            self._send(outbox)
            _logger.info("what %s had kept on disk is published", outbox.origin.source)
            self._dropped += outbox.dropped
            outbox.close()
            del self._inherited[0]

    def _find(self) -> list[Outbox]:
        """Find the spools of dead processes, up to this process' own limit; drop the oldest beyond it."""
        found: list[Outbox] = []
        if self._settings.spool_bytes:
            found = [outbox for spool in Spool.take_over_abandoned(self._spools) if (outbox := self._take_over(spool))]
        room = self._settings.spool_bytes
        for outbox in reversed(found):
            outbox.shrink(room)
            room -= outbox.disk_bytes
        return found

    def _take_over(self, spool: Spool) -> Outbox | None:
        try:
            outbox = Outbox.of_spool(
                spool, self._origin.agent, self._settings.exchange, self._publisher, self._tell_confirmed
            )
        except SpoolError as error:
            _logger.warning("what %s had kept on disk can't be read: %s", spool.source, error)
            spool.let_go()
            return None
        if not outbox:
            outbox.close()
            return None
        return outbox

    def _outboxes(self) -> tuple[Outbox, ...]:
        return (self._outbox, *(self._inherited or ()))

    def _note_confirmed(self, sealed: Sealed) -> None:
        self._sent_at, self._was_heard = monotonic(), True
        self._tell_confirmed(sealed)

    def _tell_confirmed(self, sealed: Sealed) -> None:
        self._confirmed(sealed.body)
