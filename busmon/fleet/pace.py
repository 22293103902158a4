"""When a lane's batch is closed, by age or by a drain, and what happens while its files can't take it.

Whatever commits in a shard runs here. When one fails, the shard is failing until a commit succeeds, which is tried once
a second. If its channel is lost meanwhile, the queue is not consumed from until then: the broker counts each delivery,
and would take good envelopes for poison. The consumer's state and the commit's error are two facts; the shard's status
is made of both. One thread.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial

import structlog

from busmon.bus.delivery import Delivery
from busmon.fleet.lane import Lane
from busmon.fleet.trigger import Trigger

RETRY_SECONDS = 1.0

Later = Callable[[float, Callable[[], None]], object]
"""Calls back after so many seconds, on the loop."""

_log = structlog.get_logger(__name__)


class Pace:
    """What drives one lane.

    Attributes:
        error: why the last commit failed; empty unless it did.
        at_failure: called when the files begin to take no commit.
        at_recovery: called when they take one again.
    """

    def __init__(self, lane: Lane, later: Later, flush_seconds: float) -> None:
        self.error = ""
        self.at_failure: Callable[[], None] = lambda: None
        self.at_recovery: Callable[[], None] = lambda: None
        self._lane = lane
        self._later = later
        self._flush_seconds = flush_seconds
        self._is_ageing = False
        self._is_working = False
        self._consumer = (lane.status.state, lane.status.cause)

    # -- what the consumer says -----------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries into the lane's batch, which is closed when it has become old enough."""
        self._work(partial(self._lane.deliver, deliveries))

    def _work(self, fold: Callable[[], None]) -> None:
        """Fold for a slice of time, and go on when the loop has had its turn."""
        try:
            fold()
        except OSError as error:
            self._fail(error)
        if self._lane.is_behind and not self._is_working:
            self._is_working = True
            self._later(0, self._go_on)
        if self._lane.opened_at is not None and not self._is_ageing:
            self._is_ageing = True
            self._later(self._flush_seconds, self._age)

    def _go_on(self) -> None:
        self._is_working = False
        self._work(self._lane.work)

    def void(self) -> None:
        """Forget the open batch: its deliveries come again."""
        self._lane.void()

    def change(self, state: str, cause: str) -> None:
        """Note how the queue's consumer is; before a cancelled one loses its channel, its batch is settled."""
        self._consumer = (state, cause)
        self._show()
        if state == "cancelled":
            self.close(Trigger.CANCEL)

    # -- commits --------------------------------------------------------------------------------------------------

    def close(self, trigger: Trigger) -> None:
        """Close the open batch, unless the files can't take it; then it is closed when they can."""
        self.run(partial(self._lane.close, trigger))

    def run(self, commit: Callable[[], None]) -> None:
        """Run what commits in the lane's shard, unless the shard is failing."""
        if self.error:
            return
        try:
            commit()
        except OSError as error:
            self._fail(error)

    def _age(self) -> None:
        """Close the batch that has become old enough, or look again when it will have."""
        opened_at = self._lane.opened_at
        remaining = 0.0 if opened_at is None else opened_at + self._flush_seconds - time.monotonic()
        if remaining > 0:
            self._later(remaining, self._age)
            return
        self._is_ageing = False
        self.close(Trigger.INTERVAL)

    def _fail(self, error: OSError) -> None:
        if not self.error:
            _log.error("pace.commit_failed", shard=self._lane.status.shard, error=str(error))
            self._later(RETRY_SECONDS, self._retry)
            self.at_failure()
        self.error = str(error)
        self._show()

    def _retry(self) -> None:
        try:
            self._lane.retry()
        except OSError as error:
            self.error = str(error)
            self._later(RETRY_SECONDS, self._retry)
        else:
            self.error = ""
            _log.info("pace.commit_recovered", shard=self._lane.status.shard)
            self.at_recovery()
        self._show()

    def _show(self) -> None:
        """A consumer that doesn't consume is named first: nothing comes that files could take."""
        state, cause = self._consumer
        if self.error and state in {"consuming", "suspended"}:
            state, cause = "failing", self.error
        self._lane.status.state, self._lane.status.cause = state, cause
