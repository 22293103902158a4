"""The watch for what Celery's events don't say: that a worker has fallen silent, and how long the queues are.

Only a shard that was consumed from all the time, and hasn't fallen behind, can tell that a worker is silent. The
queues are those that the tasks of the shard were sent to; the broker is asked for one at a time, by passive
declarations, so that a queue that can't be looked up costs no other its answer. One thread, the consumer's.
"""

import time
from collections.abc import Callable
from functools import partial

from busmon.bus.consume.depths import Depth
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.pace import Pace
from busmon.registry.shard.shard import Shard
from busmon.status import ConsumerState
from busmon.wire.envelope import SET, Point

SILENT_SECONDS = 60.0
"""A worker's heartbeat comes every 2 s, and its main process may be held up: a worker without one is lost then."""

ASK_SECONDS = 15.0
LATE_SECONDS = 60.0
"""Then answers that are missing don't come any more."""

MAX_QUEUES = 100
_MAX_NAME_BYTES = 255

LookUp = Callable[[str, Callable[[Depth], None]], None]


class CeleryWatch:
    """The watch over the Celery of one shard.

    Args:
        shard: has the tasks and workers.
        lane: its open batch may hold changes of them.
        pace: runs commits in the shard.
        look_up: asks the broker for a queue's depth.
        silent_seconds: the longest silence of a worker that isn't lost.
        most_waiting: deliveries that wait in a shard's queue which has not fallen behind.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        shard: Shard,
        lane: Lane,
        pace: Pace,
        *,
        look_up: LookUp,
        silent_seconds: float,
        most_waiting: int,
    ) -> None:
        self._shard = shard
        self._lane = lane
        self._pace = pace
        self._look_up = look_up
        self._silent_seconds = min(silent_seconds, SILENT_SECONDS)
        self._most_waiting = most_waiting
        self._attentive_since: float | None = None
        self._asked_at: float | None = None
        self._to_ask: list[str] = []
        self._readings: list[Point] = []

    def beat(self, now: float, depth: int | None, *, stands_by: bool) -> None:
        """Look after Celery's workers and queues, once a second.

        Args:
            now: seconds since the epoch.
            depth: the deliveries that wait in the shard's queue or aren't committed; None if that isn't known.
            stands_by: another host's fleet consumes from the shard.
        """
        if stands_by:
            self._attentive_since = None
            self._pace.run(partial(self._abandon, now))
            return
        self._pace.run(partial(self._note, now, self._find_silent_since(now, depth)))
        if self._asked_at is None or time.monotonic() - self._asked_at >= (
            LATE_SECONDS if self._to_ask else ASK_SECONDS
        ):
            self._ask_all()

    def rest(self) -> None:
        """Note that another host owns the shard: this one hears Celery's events only as the owner."""
        self._attentive_since = None

    def _find_silent_since(self, now: float, depth: int | None) -> float | None:
        """Return since when a silent worker is lost; None while the shard may not have heard all."""
        if self._pace.state != ConsumerState.CONSUMING or depth is None or depth >= self._most_waiting:
            self._attentive_since = None
            return None
        if self._attentive_since is None:
            self._attentive_since = time.monotonic()
        is_attentive = time.monotonic() - self._attentive_since >= self._silent_seconds
        return now - self._silent_seconds if is_attentive else None

    def _note(self, now: float, silent_since: float | None) -> None:
        is_changed = self._shard.beat_celery(now, silent_since)
        if self._readings:
            self._shard.read_celery(self._readings, now)
            self._readings = []
            is_changed = True
        self._commit(now, is_changed=is_changed)

    def _abandon(self, now: float) -> None:
        self._commit(now, is_changed=self._shard.abandon_celery(now))

    def _commit(self, now: float, *, is_changed: bool) -> None:
        if is_changed and self._lane.opened_at is None:
            self._shard.commit(now)

    # -- the queues ---------------------------------------------------------------------------------------------------

    def _ask_all(self) -> None:
        self._asked_at = time.monotonic()
        queues = [queue for queue in self._shard.celery_queues if len(queue.encode()) <= _MAX_NAME_BYTES]
        self._to_ask = queues[-MAX_QUEUES:]
        self._ask()

    def _ask(self) -> None:
        if self._to_ask:
            queue = self._to_ask[-1]
            self._look_up(queue, partial(self._answer, queue))

    def _answer(self, queue: str, depth: Depth) -> None:
        """Keep a queue's readings for the next beat, and ask for the next queue."""
        labels, now = {"queue_name": queue}, time.time()
        for name, value in (("celery_queue_length", depth.ready), ("celery_active_consumer_count", depth.consumers)):
            if value is not None:
                self._readings.append(Point(name, name, "gauge", value, labels, now, op=SET))
        if self._to_ask[-1:] == [queue]:
            self._to_ask.pop()
            self._ask()
