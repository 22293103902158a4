"""Which deliveries of one channel to acknowledge, and with how few acks.

Pure: it is told what is committed and what is held, and answers with the acks to send. Each tag is acknowledged once, a
held one never, and a multiple ack covers only tags that are all ready.
"""

from collections.abc import Sequence
from typing import NamedTuple


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
        """How many deliveries are held."""
        return len(self._held)

    @property
    def parked(self) -> int:
        """How many are ready and wait for a lower one, so that one ack does for all."""
        return len(self._parked)

    def unsettled(self, last_tag: int) -> int:
        """Count the deliveries, up to the last one that arrived, that are neither ready nor acknowledged."""
        return max(0, last_tag - self._top) + len(self._gaps)

    def hold(self, tag: int) -> bool:
        """Keep a delivery from being settled until it is released; False if it is settled or held already."""
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
        """Make these deliveries ready, held and settled ones passed over; the ack for all that one ack can do for."""
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
        """The ack for what has become ready below the lowest gap."""
        lowest_gap = min(self._gaps, default=self._top + 1)
        below = {tag for tag in self._parked if tag < lowest_gap}
        self._parked -= below
        # The broker closes the channel on an ack of a tag that isn't outstanding, be it multiple: so it carries one
        # that was parked, however far what is settled reaches.
        return [Ack(max(below), multiple=True)] if below else []

    def flush(self) -> list[Ack]:
        """The acks for all that is ready, one each above the lowest gap."""
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
