"""One queue's way through a worker: delivery → intake (decode, fold) → batch (commit) → settle.

Deliveries are gathered and folded together, since a fold has a fixed cost, at the latest when their batch is closed.
While the lane is behind, a delivery waits for its user's turn. A batch is closed by size, by age or by a drain.
A batch that the files can't take is rolled back, and its deliveries are kept and folded again, in order. A batch that
can't be counted for another reason is counted one by one (`uncountable.py`). After any crash the ledger has the ids of
the counted envelopes. One thread, the consumer's.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from math import inf

import structlog

from busmon.bus.frames.delivery import Delivery
from busmon.errors import BusmonError
from busmon.fleet.worker.gathered import Gathered
from busmon.fleet.worker.intake import Intake
from busmon.fleet.worker.open_batch import MAX_RUN, MAX_RUN_BYTES, OpenBatch, Settlement
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.paced_log import PacedLog
from busmon.fleet.worker.quarantine_shares import QuarantineShares
from busmon.fleet.worker.suspects import Suspects
from busmon.fleet.worker.trigger import Trigger
from busmon.fleet.worker.turns import Turns, User
from busmon.fleet.worker.uncountable import Uncountable
from busmon.registry.shard.shard import Shard
from busmon.wire.formats import Formats

SLICE_SECONDS = 0.25
"""The longest work at a time, after which the loop has its turn: heartbeats, acks, timers and the other lanes."""

MAX_WAITING_BYTES = 32 * 1024 * 1024
"""The size of waiting deliveries from which on the worker reads no faster than it folds; a prefetch more may arrive."""

_LAST = frozenset({Trigger.DRAIN, Trigger.CANCEL})
"""After these triggers no delivery is taken, so the batch has all deliveries."""

_log = structlog.get_logger(__name__)


class Lane:
    """The deliveries of one queue: those that wait, those that are next, and the open batch.

    Args:
        shard: counts the queue's envelopes.
        suspects: the shard's.
        settlement: settles the deliveries.
        number: the shard's.
        queue: consumed from.
        batch_size: deliveries that fill a batch.
        formats: decode the bodies.
        ownership: the rules for the users of deliveries.
        shares: of the quarantine.
        paced_log: takes the lines that publishers cause.
        progress: called for each folded run of deliveries, since many may have arrived together.
    """

    def __init__(  # noqa: PLR0913 - constructed in one place, by keyword
        self,
        shard: Shard,
        suspects: Suspects,
        settlement: Settlement,
        *,
        number: int,
        queue: str,
        batch_size: int,
        formats: Formats,
        ownership: Ownership,
        shares: QuarantineShares,
        paced_log: PacedLog,
        progress: Callable[[], object],
    ) -> None:
        shard.check_users(are_checked=ownership.is_checked)
        self.number = number
        self.queue = queue
        self._shard = shard
        self._suspects = suspects
        self._ownership = ownership
        self._batch_size = batch_size
        self._batch = OpenBatch(
            shard,
            suspects,
            settlement,
            ownership,
            shares=shares,
            paced_log=paced_log,
            number=number,
            queue=queue,
            max_deliveries=batch_size,
        )
        self._intake = Intake(
            self._batch, shard, suspects, formats=formats, ownership=ownership, queue=queue, progress=progress
        )
        self._uncountable = Uncountable(self._batch, self._intake, shard, queue)
        self._turns = Turns()
        self._gathered = Gathered()
        self._next: list[Delivery] = []
        self._run: Sequence[Delivery] = ()
        self._is_stuck = False
        self._rehearsed: list[Delivery] = []

    @property
    def opened_at(self) -> float | None:
        """Return the monotonic clock's time of the batch's first delivery, folded or gathered; None without one."""
        return self._batch.opened_at or self._gathered.since

    @property
    def committed_at(self) -> float | None:
        """Return the wall clock's time of the last commit of a batch; None before the first."""
        return self._batch.committed_at

    @property
    def is_behind(self) -> bool:
        """Return whether deliveries wait for the next slice."""
        return bool(self._turns) and not self._is_stuck

    # -- the way of a delivery ----------------------------------------------------------------------------------------

    def deliver(self, deliveries: Sequence[Delivery]) -> None:
        """Gather deliveries; fold them once they are many, and close each full batch. After a slice the rest waits.

        Deliveries that arrive while others wait, wait for their user's turn (`turns.py`).

        Raises:
            OSError: the files can't take the deliveries. Unsettled and later deliveries are kept until `close` or
                `retry` succeeds.
        """
        if self._is_stuck or self._turns:
            self._wait(deliveries)
            if self._turns.bytes > MAX_WAITING_BYTES:
                self.work()
            return
        self._gathered.add(deliveries)
        if len(self._gathered) >= self._batch.room or self._gathered.bytes >= MAX_RUN_BYTES:
            self.fold_gathered()

    def fold_gathered(self) -> None:
        """Fold what is gathered for a slice of time, so that the shard has heard it; the rest waits.

        Raises:
            OSError: as for `deliver`.
        """
        if self._gathered.since is not None:
            self._batch.begin(self._gathered.since)
            self._next = self._gathered.take()
            self._count_next(SLICE_SECONDS)
            self._return_rest()

    def work(self) -> None:
        """Fold waiting deliveries for a slice of time, in the order of the users' turns.

        Raises:
            OSError: as for `deliver`.
        """
        began = time.monotonic()
        ends_at = began + SLICE_SECONDS
        while self.is_behind and began < ends_at:
            self._next = self._turns.next()
            while self._next and began < ends_at:
                self._guard(self._count_run)
                ended = time.monotonic()
                self._turns.charge(self._run, self._users(self._run), ended - began)
                began = ended
            self._return_rest()
        if not self._turns:
            self._turns = Turns()

    def close(self, trigger: Trigger) -> None:
        """Commit the open batch, with what a slice folds of the gathered deliveries, and kept deliveries; settle them.

        Before an end also the waiting deliveries.

        Raises:
            OSError: the files can't take the batch; nothing of it is settled, and its deliveries are kept.
        """
        self.fold_gathered()
        if self._is_stuck or trigger in _LAST:
            self._next += self._turns.take_all()
        self._is_stuck = False
        self._count_next(inf)
        self._guard(partial(self._batch.commit, trigger))

    def retry(self) -> None:
        """Close the batch, and check that the files take a commit: a void batch is rehearsed without being counted.

        Raises:
            OSError: the files don't.
        """
        self.close(Trigger.RETRY)
        self._rehearse()
        self._shard.commit(time.time())

    def void(self) -> None:
        """Undo the open batch: its channel is lost, and the broker redelivers its deliveries."""
        self._batch.void()
        self._turns, self._gathered = Turns(), Gathered()
        if self._is_stuck:
            self._rehearsed = self._next[: self._batch_size]
        self._next, self._is_stuck = [], False

    # -- step by step -------------------------------------------------------------------------------------------------

    def _wait(self, deliveries: Sequence[Delivery]) -> None:
        self._turns.add(deliveries, self._users(deliveries))

    def _users(self, deliveries: Sequence[Delivery]) -> Sequence[User]:
        """Return whose turn each delivery waits for."""
        # A source whose user isn't checked may arrive under several, whose turns would change its order.
        return self._ownership.users(deliveries) if self._ownership.is_checked else [None] * len(deliveries)

    def _return_rest(self) -> None:
        """Let the next deliveries wait, since the time is over."""
        if self._next:
            self._wait(self._next)
            self._next = []

    def _count_next(self, seconds: float) -> None:
        """Count the next deliveries, in order, until none is left or the time is over."""
        ends_at = time.monotonic() + seconds
        while self._next:
            self._guard(self._count_run)
            if time.monotonic() > ends_at:
                break

    def _count_run(self) -> None:
        """Count one run of deliveries, and commit the batch when it is full."""
        if self._is_suspected(self._next[0]):
            self._run = self._next[:1]
            self._batch.commit(Trigger.FAULT)
            self._count_alone()
            return
        run = self._run = self._batch.take(self._select_unsuspected())
        del self._next[: len(run)]
        self._intake.fold(run)
        if self._batch.is_full:
            self._batch.commit(Trigger.SIZE)

    def _is_suspected(self, delivery: Delivery) -> bool:
        """Return whether the delivery may have ended the shard's last worker in a commit."""
        return self._suspects.is_commit_suspected and delivery.redelivered

    def _select_unsuspected(self) -> Sequence[Delivery]:
        """Return the next deliveries up to the first suspected one."""
        if not self._suspects.is_commit_suspected:
            return self._next
        return [*takewhile(lambda delivery: not delivery.redelivered, self._next[:MAX_RUN])]

    def _count_alone(self) -> None:
        self._uncountable.count_alone(self._next.pop(0))

    # -- what fails ---------------------------------------------------------------------------------------------------

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a step; if it fails, roll the batch back, and keep its deliveries or find the faulty delivery.

        Raises:
            OSError: the files can't take the batch. Its deliveries are next again.
        """
        try:
            try:
                step()
            except (OSError, BusmonError):
                raise
            except Exception:  # noqa: BLE001 - a body can make the fold or the commit raise anything
                if not self._single_out():
                    _log.exception("lane.step_failed", queue=self.queue)
        except OSError:
            self._return_batch()
            self._is_stuck = True
            raise

    def _single_out(self) -> int:
        """Count each delivery of the batch alone, so that the faulty delivery is refused; return their number."""
        suspects = self._return_batch()
        self._uncountable.require_files()
        for _ in range(suspects):
            self._count_alone()
        return suspects

    def _return_batch(self) -> int:
        """Roll the batch back, and put its deliveries before the next ones; return their number."""
        returned = self._batch.rollback()
        self._next[:0] = returned
        return len(returned)

    def _rehearse(self) -> None:
        """Run the parts of a commit that take disk space, with the failed batch; an empty commit takes too little."""
        if not self._rehearsed:
            return
        try:
            self._intake.fold(self._rehearsed)
            self._shard.rehearse(time.time())
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - no fault of the disk; it will be met, and blamed, when it is delivered
            _log.debug("lane.rehearsal_ended", queue=self.queue, exc_info=True)
        finally:
            self._batch.rollback()
        self._rehearsed = []
