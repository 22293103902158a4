"""Acks for the deliveries of one open channel: what `settlement` decides, sent when it is worth it.

On the thread of the loop, for the life of one channel. RabbitMQ hands acks on to a quorum queue 32 at a time and
forgets those not yet handed on when the channel closes (3.10), so there have to be few of them.
"""

import math
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

from busmon.bus.settlement import Ack, ChannelTags

# How long committed deliveries wait for a held one below them, whose confirm takes milliseconds; then one ack does for
# all of them.
PARK_SECONDS = 0.2


class Settler:
    """Settles the deliveries of one channel.

    Args:
        channel: open.
        base: what is added to the channel's delivery tags to tell them from other channels' tags.
        prefetch: how many deliveries may be unsettled.

    Attributes:
        last_single: when acks were last sent one by one, in seconds of the monotonic clock.
    """

    def __init__(self, channel: Channel, base: int, prefetch: int, ioloop: IOLoop) -> None:
        self.last_single = -math.inf
        self._channel = channel
        self._base = base
        self._most_parked = prefetch // 2
        self._ioloop = ioloop
        self._tags = ChannelTags()
        self._sweep_planned = False
        self._flush_timer: Any = None

    @property
    def held(self) -> int:
        """How many deliveries are held."""
        return self._tags.held

    def unsettled(self, last_tag: int) -> int:
        """Count the deliveries, up to the last one that arrived, that are not committed."""
        return self._tags.unsettled(last_tag - self._base)

    def settle(self, tags: Sequence[int]) -> None:
        """Acknowledge committed deliveries; tags of an earlier channel are passed over."""
        self._send(self._tags.settle([tag - self._base for tag in tags if tag > self._base]))
        self._plan_flush()

    def hold(self, tag: int) -> bool:
        """Keep a delivery unsettled until it is released; False if it is void, settled or held already."""
        return tag > self._base and self._tags.hold(tag - self._base)

    def release(self, tag: int) -> None:
        """Acknowledge a held delivery, together with the others that are released in this turn of the loop."""
        self._tags.release(tag - self._base)
        if not self._sweep_planned:
            self._sweep_planned = True
            self._ioloop.add_callback_threadsafe(self._sweep)

    def flush(self) -> None:
        """Acknowledge all that is committed, one by one if need be."""
        self.stop()
        acks = self._tags.flush()
        if not all(ack.multiple for ack in acks):
            self.last_single = monotonic()
        self._send(acks)

    def stop(self) -> None:
        """Plan nothing more: the channel is gone."""
        if self._flush_timer is not None:
            self._ioloop.remove_timeout(self._flush_timer)
            self._flush_timer = None

    def _sweep(self) -> None:
        self._sweep_planned = False
        self._send(self._tags.sweep())
        self._plan_flush()

    def _plan_flush(self) -> None:
        if self._tags.parked > self._most_parked:
            self.flush()
        elif self._tags.parked and self._flush_timer is None:
            self._flush_timer = self._ioloop.call_later(PARK_SECONDS, self.flush)

    def _send(self, acks: Iterable[Ack]) -> None:
        # Not open: the broker or we are closing it, and what isn't acknowledged comes again.
        if self._channel.is_open:
            for ack in acks:
                self._channel.basic_ack(ack.delivery_tag, ack.multiple)
