"""The wait of a standby host for one shard: the shard is taken once nothing has consumed from its queue for a while.

Pure. A worker that is killed and replaced is away for seconds, so its shards stay with its host. Time is the monotonic
clock's. One thread.
"""


class Standby:
    """The wait for one shard.

    Args:
        seconds: how long the queue must be without a consumer; 0 for no wait.
        is_taken: the host has taken the shard already, before its worker was replaced.

    Attributes:
        is_waiting: the shard is not taken.
    """

    def __init__(self, seconds: float, *, is_taken: bool = False) -> None:
        self.is_waiting = seconds > 0 and not is_taken
        self._seconds = seconds
        self._alone_since: float | None = None

    @property
    def reason(self) -> str:
        """Return the reason for which the shard is not consumed from, in a line."""
        return f"another host consumes, or did within the last {self._seconds:g} s"

    def note(self, consumers: int | None, now: float) -> bool:
        """Note the number of the queue's consumers; return True when the shard is to be taken.

        Args:
            consumers: the broker's count; None if it isn't known.
            now: in seconds of the monotonic clock.
        """
        if not self.is_waiting or consumers != 0:
            self._alone_since = None
            return False
        if self._alone_since is None:
            self._alone_since = now
        self.is_waiting = now - self._alone_since < self._seconds
        return not self.is_waiting
