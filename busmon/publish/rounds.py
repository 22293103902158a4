"""One round after the other: take what was gathered, seal it, and have every envelope confirmed.

While envelopes wait for the broker nothing more is taken: series fold what they gather, envelopes would pile up.
Belongs to the publishing thread.
"""

from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time

from busmon.bus.connection import reconnect_waits
from busmon.bus.publisher import ConfirmedPublisher
from busmon.publish.batch import LIFECYCLE, Origin, Row, Table, farewell, heartbeat, seal
from busmon.publish.outbox import Outbox
from busmon.publish.series import Series
from busmon.settings import Settings

_DROPPED = Table("busmon_publisher_dropped_total", ("agent",), domain=LIFECYCLE)


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
        self._silence_seconds = series.shared.resend_seconds
        self._publisher = publisher
        self._confirmed = confirmed
        self._outbox = Outbox(origin, settings.exchange, publisher, settings.publish_buffer_bytes)
        self._dropped = 0
        self._sent_at = monotonic()
        self._was_heard = False
        self._waits = reconnect_waits()

    def publish(self) -> None:
        """Have everything confirmed that was gathered until now, and the source's life if there was nothing.

        Raises:
            BusError: something isn't confirmed, and is kept.
        """
        self._send()
        for sealed in seal(self._origin, time(), self._rows()):
            self._dropped += self._outbox.put(sealed)
        if not self._outbox and monotonic() - self._sent_at >= self._silence_seconds:
            self._outbox.put(heartbeat(self._origin, time()))
        self._send()
        self._waits = reconnect_waits()

    def back_off(self) -> float:
        """Seconds to wait after a failure."""
        return next(self._waits)

    def idle(self) -> None:
        """Answer the broker's heartbeats; whatever goes wrong, the next publish finds it and says so."""
        with suppress(Exception):
            self._publisher.idle(0)

    def close(self) -> int:
        """Take leave and close the connection; returns how many samples are lost with this process."""
        with suppress(Exception):  # the fleet finds out by the source's silence, only later
            self._take_leave()
        self._publisher.close()
        return self._outbox.samples + sum(row.samples for row in self._rows())

    def _take_leave(self) -> None:
        """Have the source's gauges leave the scrape at once; not while something waits, which may yet be sent again."""
        if self._was_heard and not self._outbox:
            self._outbox.put(farewell(self._origin, time()))
            self._send()

    def _rows(self) -> list[Row]:
        rows, discarded = self._series.take(time())
        dropped, self._dropped = self._dropped + discarded, 0
        if dropped:
            rows.append(Row(_DROPPED, (self._origin.agent,), dropped, samples=dropped))
        return rows

    def _send(self) -> None:
        while self._outbox:
            body = self._outbox.send_first().body
            self._sent_at, self._was_heard = monotonic(), True
            self._confirmed(body)
