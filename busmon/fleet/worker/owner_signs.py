"""The signs of life of a shard's owner, as one reader of the shard's log has them: claims, records and farewells.

They say whether the shard has an owner, for how long a replica may lack records, and how the owner's clock differs from
this host's. One thread, the consumer's.
"""

import math
import time

from busmon.plurals import age
from busmon.replication.counting import Place
from busmon.replication.records import Release

SILENCE_SECONDS = 30.0
"""A follower that has read no record for so long claims the shard: its owner is gone, and nothing was delivered."""

LEAST_SKEW_SECONDS = 30.0
"""The least difference of two clocks that is noted, and the least growth of one: a record may be read late."""


class OwnerSigns:
    """The signs of one shard's owner.

    Attributes:
        clock_ahead_seconds: by how much this host's clock is ahead of the owner's; None until a record was read live.
    """

    def __init__(self) -> None:
        self.clock_ahead_seconds: float | None = None
        self._heard_at = self._claimed_at = time.monotonic()
        self._is_live = False
        self._released = ""

    def resume(self, at: float) -> None:
        """Begin with the time of the last record that the replica's files have, in seconds since the epoch."""
        self._heard_at -= max(0.0, time.time() - at)
        self._claimed_at = -math.inf

    def note_claim(self) -> None:
        """Note a claim that counts."""
        self._claimed_at = time.monotonic()

    def note_release(self, release: Release) -> None:
        """Note the farewell of an owner."""
        self._released = release.owner

    def note_record(self, at: float, *, is_live: bool) -> None:
        """Note a record that counts.

        Args:
            at: the record's time, in seconds since the epoch.
            is_live: the reader was at the log's end, so it reads the record at once.
        """
        self._heard_at, self._is_live = time.monotonic(), is_live
        if is_live:
            self._compare_clocks(time.time() - at)

    def _compare_clocks(self, ahead_seconds: float) -> None:
        """Note how the clocks differ by a record; one that was read late makes the difference larger, never smaller."""
        known = self.clock_ahead_seconds or 0.0
        if abs(ahead_seconds) <= LEAST_SKEW_SECONDS:
            known = 0.0
        elif ahead_seconds < known or ahead_seconds > known + LEAST_SKEW_SECONDS:
            known = ahead_seconds
        self.clock_ahead_seconds = known

    def find_obstacle(self, owner: str) -> str:
        """Return a line that says how this host's clock differs from that of the host `owner`; empty if it doesn't."""
        seconds = self.clock_ahead_seconds
        if not seconds:
            return ""
        order = "ahead of" if seconds > 0 else "behind"
        return f"this host's clock is {age(abs(seconds))} {order} that of host {owner!r}: synchronize them"

    @property
    def silent_seconds(self) -> float:
        """Return the time since the last record was read."""
        return time.monotonic() - self._heard_at

    def has_owner(self, place: Place) -> bool:
        """Return whether a host seems to own the shard: it had an owner at this place, whose records still come."""
        silent_seconds = min(self.silent_seconds, time.monotonic() - self._claimed_at)
        return place.epoch > 0 and place.owner != self._released and silent_seconds < SILENCE_SECONDS

    def measure_clock_step(self, place: Place, now: float) -> float:
        """Return the seconds by which this host's clock is ahead of the log's time; 0 where that can't be told.

        The log's time goes on with this host's monotonic clock after the last record, if the record was read at once.

        Args:
            place: up to which the log is counted.
            now: seconds since the epoch.
        """
        if not place.number:
            return 0.0
        if self._is_live:
            return now - (place.at + self.silent_seconds)
        return min(0.0, now - place.at)
