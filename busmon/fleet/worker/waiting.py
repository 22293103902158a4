"""The wait of a shard's envelopes without a commit, which is the sign of a stall that no state shows.

Pure. Time is the monotonic clock's, so a clock that is set makes no stall. One thread.
"""


class Waiting:
    """The wait of one shard's envelopes.

    Args:
        allowed_seconds: how long an envelope may wait for its batch to be closed; not counted.
    """

    def __init__(self, allowed_seconds: float) -> None:
        self._allowed_seconds = allowed_seconds
        self._committed_at: float | None = None
        self._since: float | None = None

    def note(self, messages: int | None, committed_at: float | None, now: float) -> float | None:
        """Return the seconds for which messages have waited; None if they aren't known.

        Args:
            messages: the number of uncommitted messages; None if it isn't known.
            committed_at: the time of the last commit, by any clock: it only has to differ from the previous one's.
            now: in seconds of the monotonic clock.
        """
        is_moving = committed_at != self._committed_at
        self._committed_at = committed_at
        if messages is None:
            self._since = None
            return None
        if not messages:
            self._since = None
        elif self._since is None or is_moving:
            self._since = now
        return 0.0 if self._since is None else max(0.0, now - self._since - self._allowed_seconds)
