"""Other fleets on the same queues: the broker serves one of them, so the others stand by and count nothing.

A shard's queue can't tell: asked how many consume from it, the broker counts only the one that it serves. What the
quarantine drops, though, every fleet consumes from once, and there all are counted. One thread.
"""

import structlog

LASTED_BEATS = 6
"""More than a worker takes to end, so that one fleet that follows another isn't taken for a second."""

_log = structlog.get_logger(__name__)


class Rivals:
    """Looks out for them.

    Args:
        queue: the one that each fleet consumes from once.
    """

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._beats = 0

    @property
    def obstacle(self) -> str:
        """What is wrong, in a line; empty while nothing is, or not for long enough."""
        if self._beats < LASTED_BEATS:
            return ""
        return (
            f"another fleet consumes from {self._queue!r} too: of each shard the broker serves one, the other stands by"
        )

    def note(self, consumers: int | None) -> None:
        """Hear once a beat how many consume from the queue; None where that isn't known."""
        had, self._beats = bool(self.obstacle), self._beats + 1 if (consumers or 0) > 1 else 0
        if self.obstacle and not had:
            advice = "stop one of them, unless it is to stand by; see docs/troubleshooting.md"
            _log.warning("rivals.found", queue=self._queue, consumers=consumers, next=advice)
        elif had and not self.obstacle:
            _log.info("rivals.gone", queue=self._queue)
