"""Other fleets on the same queues: the broker serves one of them, so the others stand by and count nothing.

A shard's queue doesn't show other fleets: the broker counts only the consumer that it serves. The queue of the
quarantine's drops shows them: every fleet has one consumer there, and the broker counts all. The broker also counts a
consumer of a node that is down, until that node is back: each lost connection may have left a consumer. One thread.
"""

import structlog

LASTED_BEATS = 6
"""More beats than a worker takes to end, so that a fleet that replaces another doesn't count as a rival."""

_log = structlog.get_logger(__name__)


class Rivals:
    """The watch for other fleets.

    Args:
        queue: the queue on which each fleet has one consumer.

    Attributes:
        are_possible: more than one consumer is registered, by any fleet.
    """

    def __init__(self, queue: str) -> None:
        self.are_possible = False
        self._queue = queue
        self._beats = 0
        self._found = 0
        self._left_behind = 0
        self._losses = 0
        self._is_known = False

    @property
    def obstacle(self) -> str:
        """Return the obstacle, in a line; empty while there is none, or a too recent one."""
        if not (self._found and self._is_known):
            return ""
        return (
            f"another fleet consumes from {self._queue!r} too: of each shard the broker serves one, the other stands by"
        )

    def note(self, consumers: int | None, losses: int = 0) -> None:
        """Note the number of the queue's consumers, once a beat.

        Args:
            consumers: the broker's count; None if it isn't known.
            losses: how often this fleet has lost its connection.
        """
        had, count = bool(self.obstacle), consumers or 0
        self.are_possible = count > 1
        self._is_known = count > 0
        if count:
            self._explain(count - 1, losses)
        else:
            self._beats = 0
        if self.obstacle and not had:
            advice = "stop one of them, unless it is to stand by; see docs/troubleshooting.md"
            _log.warning("rivals.found", queue=self._queue, consumers=consumers, next=advice)
        elif had and not self.obstacle:
            _log.info("rivals.gone", queue=self._queue)

    def _explain(self, others: int, losses: int) -> None:
        """Divide the other consumers into those that losses of this fleet left behind and those of other fleets.

        Fleets that were found before a loss explain the count first, so that a permanent one stays found.
        """
        new, self._losses = losses - self._losses, losses
        self._left_behind = min(self._left_behind + new, max(0, others - self._found))
        rivals = others - self._left_behind
        self._beats = self._beats + 1 if rivals > self._found else 0
        self._found = rivals if rivals < self._found or self._beats >= LASTED_BEATS else self._found
