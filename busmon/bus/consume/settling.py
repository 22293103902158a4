"""The acks for the deliveries of one open channel, batched into as few as possible.

`ChannelTags` is pure: from the committed and the held deliveries it computes the fewest acks. Each tag is acknowledged
once, a held tag never, and a multiple ack covers only tags that are all ready. RabbitMQ 3.10 hands acks on to a quorum
queue 32 at a time, and forgets the remaining acks when the channel closes. So acks have to be few. On the thread of the
loop, for the life of one channel.
"""

import math
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from pika.adapters.select_connection import IOLoop
from pika.channel import Channel

# How long committed deliveries wait for a held one below them, whose confirm takes milliseconds, to share one ack.
PARK_SECONDS = 0.2


class Ack(NamedTuple):
    """One `basic.ack`; a multiple one settles every outstanding tag up to its own."""

    delivery_tag: int
    multiple: bool


class ChannelTags:
    """The delivery tags of one channel, which the broker counts from 1."""

    def __init__(self) -> None:
        self._top = 0  # the highest tag that is ready or acknowledged
        # Only the tags below the top that are neither are remembered, so that a delivery held for hours costs no memory
        # for the millions settled after it: there are never more of them than the prefetch.
        self._gaps: set[int] = set()
        self._held: set[int] = set()
        self._parked: set[int] = set()

    @property
    def held(self) -> int:
        """Count the deliveries that are held."""
        return len(self._held)

    @property
    def parked(self) -> int:
        """Count the ready deliveries that wait for a lower one, to share one ack."""
        return len(self._parked)

    def count_unsettled(self, last_tag: int) -> int:
        """Count the deliveries, up to the last one that arrived, that are neither ready nor acknowledged."""
        return max(0, last_tag - self._top) + len(self._gaps)

    def hold(self, tag: int) -> bool:
        """Keep a delivery from being settled until its release; return False if it is settled or held already."""
        if tag in self._held or not self._is_open(tag):
            return False
        self._held.add(tag)
        return True

    def release(self, tag: int) -> None:
        """Make a held delivery ready; the next acks include it."""
        if tag in self._held:
            self._held.remove(tag)
            self._make_ready({tag})

    def settle(self, tags: Sequence[int]) -> list[Ack]:
        """Make these deliveries ready, except held and settled ones; return the ack that covers the most."""
        after = self._top + len(tags)
        if (
            tags
            and not self._gaps
            and not self._held
            and not self._parked
            and tags == [*range(self._top + 1, after + 1)]
        ):
            self._top = after
            return [Ack(after, multiple=True)]
        self._make_ready({tag for tag in tags if tag not in self._held and self._is_open(tag)})
        return self.sweep()

    def sweep(self) -> list[Ack]:
        """Return the ack for all ready deliveries below the lowest gap."""
        lowest_gap = min(self._gaps, default=self._top + 1)
        below = {tag for tag in self._parked if tag < lowest_gap}
        self._parked -= below
        # The broker closes the channel on an ack of a tag that isn't outstanding, multiple or not. So the ack has the
        # tag of a parked delivery.
        return [Ack(max(below), multiple=True)] if below else []

    def flush(self) -> list[Ack]:
        """Return the acks for all ready deliveries, one for each above the lowest gap."""
        acks = self.sweep() + [Ack(tag, multiple=False) for tag in sorted(self._parked)]
        self._parked.clear()
        return acks

    def _is_open(self, tag: int) -> bool:
        return tag > self._top or tag in self._gaps

    def _make_ready(self, tags: set[int]) -> None:
        top = max(tags, default=0)
        if top > self._top:
            self._gaps.update(range(self._top + 1, top))
            self._top = top
        self._gaps -= tags
        self._parked |= tags


class Settler:
    """The settlement of one channel's deliveries.

    Args:
        channel: an open channel.
        base: added to the channel's delivery tags, which makes them differ from other channels' tags.
        prefetch: how many deliveries may be unsettled.

    Attributes:
        last_single: the time of the last acks that were sent one by one, in seconds of the monotonic clock.
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
        """Count the deliveries that are held."""
        return self._tags.held

    def count_unsettled(self, last_tag: int) -> int:
        """Count the deliveries, up to the last one that arrived, that are not committed."""
        return self._tags.count_unsettled(last_tag - self._base)

    def settle(self, tags: Sequence[int]) -> None:
        """Acknowledge committed deliveries; tags of an earlier channel are ignored."""
        self._send(self._tags.settle([tag - self._base for tag in tags if tag > self._base]))
        self._plan_flush()

    def hold(self, tag: int) -> bool:
        """Keep a delivery unsettled until its release; return False if it is void, settled or held already."""
        return tag > self._base and self._tags.hold(tag - self._base)

    def release(self, tag: int) -> None:
        """Acknowledge a held delivery, together with the others that this turn of the loop releases."""
        self._tags.release(tag - self._base)
        if not self._sweep_planned:
            self._sweep_planned = True
            self._ioloop.add_callback_threadsafe(self._sweep)

    def flush(self) -> None:
        """Acknowledge all committed deliveries, one by one if necessary."""
        self.stop()
        acks = self._tags.flush()
        if not all(ack.multiple for ack in acks):
            self.last_single = monotonic()
        self._send(acks)

    def stop(self) -> None:
        """Cancel the planned flush: the channel is lost."""
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
        # If the channel isn't open, the broker requeues the unacknowledged deliveries.
        if self._channel.is_open:
            for ack in acks:
                self._channel.basic_ack(ack.delivery_tag, ack.multiple)
