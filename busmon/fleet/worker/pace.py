"""The timing of a lane's commits, by age or by a drain, and the retries while its files take no commit.

Every commit in a shard runs here. After a failed commit the shard is failing until a retry succeeds; retries run once a
second. If the channel is lost meanwhile, the queue is not consumed from until then. The broker counts each delivery,
and would treat good envelopes as poison messages. The shard's status combines the consumer's state and the commit's
error. One thread.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog

from busmon.bus.frames.delivery import Delivery
from busmon.errors import UncountedError
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.trigger import Trigger
from busmon.status import ConsumerState

RETRY_SECONDS = 1.0

Later = Callable[[float, Callable[[], None]], object]
"""Calls back after so many seconds, on the loop."""

_log = structlog.get_logger(__name__)


class Pace:
    """The driver of one lane, and the listener of its queue.

    Args:
        lane: the lane.
        later: the loop's timer.
        flush_seconds: the age at which a batch is closed.
        at_failure: called when the files begin to take no commit.
        at_recovery: called when the files take a commit again.
        at_change: called when the shard's state or its cause has changed.

    Attributes:
        error: the last commit's error; empty if it succeeded.
        state: the shard's, as in `ShardStatus`.
        cause: the reason for which the shard doesn't consume; empty while it does.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        lane: Lane,
        later: Later,
        flush_seconds: float,
        *,
        at_failure: Callable[[], None] = lambda: None,
        at_recovery: Callable[[], None] = lambda: None,
        at_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.error = ""
        self._consumer: tuple[str, str] = (ConsumerState.CONNECTING, "")
        self.state: str = ConsumerState.CONNECTING
        self.cause = ""
        self._lane = lane
        self._later = later
        self._flush_seconds = flush_seconds
        self._at_failure = at_failure
        self._at_recovery = at_recovery
        self._at_change = at_change
        self._is_ageing = False
        self._is_working = False

    # -- the consumer's calls -------------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries into the lane's batch, which is closed at its age limit."""
        self._work(partial(self._lane.deliver, deliveries))

    def _work(self, fold: Callable[[], None]) -> None:
        """Fold for a slice of time, and continue after the loop's turn."""
        try:
            fold()
        except OSError as error:
            self._fail(error)
        self._plan()

    def _plan(self) -> None:
        """Plan what comes next: the work on what waits, and the look at the batch's age."""
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
        """Forget the open batch: the broker redelivers its deliveries."""
        self._lane.void()

    def change(self, state: str, cause: str) -> None:
        """Note the state of the queue's consumer; settle the batch before a cancelled consumer loses its channel."""
        self._consumer = (state, cause)
        self._show()
        if state == ConsumerState.CANCELLED:
            self.close(Trigger.CANCEL)

    # -- commits --------------------------------------------------------------------------------------------------

    def close(self, trigger: Trigger) -> None:
        """Close the open batch; if the files can't take it, it is closed once they can."""
        self.run(partial(self._lane.close, trigger))

    def run(self, commit: Callable[[], None]) -> None:
        """Run a commit in the lane's shard, unless the shard is failing."""
        if self.error:
            return
        try:
            commit()
        except OSError as error:
            self._fail(error)
        self._plan()

    def _age(self) -> None:
        """Close a batch that has reached its age limit, or plan the next check."""
        opened_at = self._lane.opened_at
        remaining = 0.0 if opened_at is None else opened_at + self._flush_seconds - time.monotonic()
        if remaining > 0:
            self._later(remaining, self._age)
            return
        self._is_ageing = False
        self.close(Trigger.INTERVAL)

    def _fail(self, error: OSError) -> None:
        if isinstance(error, UncountedError):  # the shard is lost, and its deliveries come again
            return
        if not self.error:
            _log.error("pace.commit_failed", shard=self._lane.number, error=str(error))
            self._later(RETRY_SECONDS, self._retry)
            self._at_failure()
        self.error = str(error)
        self._show()

    def _retry(self) -> None:
        try:
            with suppress(UncountedError):  # with the next deliveries the files are tried again
                self._lane.retry()
        except OSError as error:
            self.error = str(error)
            self._later(RETRY_SECONDS, self._retry)
        else:
            self.error = ""
            _log.info("pace.commit_recovered", shard=self._lane.number)
            self._at_recovery()
            self._plan()
        self._show()

    def _show(self) -> None:
        """Show the consumer's state first, since without deliveries the files have nothing to take."""
        state, cause = self._consumer
        if self.error and state in {ConsumerState.CONSUMING, ConsumerState.SUSPENDED}:
            state, cause = ConsumerState.FAILING, self.error
        if (state, cause) != (self.state, self.cause):
            self.state, self.cause = state, cause
            self._at_change()
