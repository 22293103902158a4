"""A token bucket, as exporter-toolkit's `rate_limit` describes it. Pure: the time goes in."""

from busmon.exporter.access.web_file import RateLimit


class Bucket:
    """Up to `burst` requests at once, and one more each interval.

    Args:
        limit: how many.
        now: the monotonic clock's seconds.
    """

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._left = float(limit.burst)
        self._filled_at = now

    def allows(self, now: float) -> bool:
        """Return True and count the request if one more may be answered."""
        grown = (now - self._filled_at) / self.limit.interval_seconds
        self._left = min(float(self.limit.burst), self._left + grown)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
