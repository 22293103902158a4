"""Deliveries that are counted alone, to find the faulty delivery and to blame no other.

A batch that can't be counted, for another reason than its files, holds a delivery that makes the fold or the commit
raise. So does a commit in which a worker died. One delivery alone either is committed or is refused. One thread.
"""

import logging
import time

from busmon.bus.frames.delivery import Delivery
from busmon.errors import BusmonError, EnvelopeError
from busmon.fleet.worker.intake import Intake
from busmon.fleet.worker.open_batch import OpenBatch
from busmon.fleet.worker.suspects import identity
from busmon.fleet.worker.trigger import Trigger
from busmon.reasons import BodyReason
from busmon.registry.shard.shard import Shard


class Uncountable:
    """The counting of deliveries one by one.

    Args:
        batch: takes each delivery, and is committed with it.
        intake: folds each delivery.
        shard: its files must take an empty commit before a delivery is blamed.
        queue: named in the log.
    """

    def __init__(self, batch: OpenBatch, intake: Intake, shard: Shard, queue: str) -> None:
        self._batch = batch
        self._intake = intake
        self._shard = shard
        self._queue = queue

    def count_alone(self, delivery: Delivery) -> None:
        """Commit a delivery as a batch of its own, or refuse it if it can't be counted.

        The delivery is noted until its commit, since it may end the worker.

        Raises:
            OSError: the files can't take the delivery; it is in the open batch.
        """
        self._batch.take([delivery])
        try:
            self._intake.fold([delivery])
            self._commit(delivery)
        except (OSError, BusmonError):
            raise
        except Exception as fault:  # noqa: BLE001 - a body can make the fold or the commit raise anything
            self._batch.take(self._batch.rollback())
            self.require_files()
            self._refuse(delivery, fault)

    def require_files(self) -> None:
        """Make an empty commit: if it fails, no delivery is at fault.

        Raises:
            OSError: the files can't take a commit now.
        """
        self._shard.commit(time.time())

    def _refuse(self, delivery: Delivery, fault: Exception) -> None:
        name = type(fault).__name__
        told = f"{name}: {fault}"[:200]
        self._batch.paced_log.write(logging.ERROR, "lane.fault_met", name, None, queue=self._queue, error=told)
        self._batch.refuse(delivery, EnvelopeError(BodyReason.UNCOUNTABLE, f"counting it failed: {name}"))
        self._commit(delivery)

    def _commit(self, delivery: Delivery) -> None:
        self._batch.commit(Trigger.FAULT, identity(delivery.message_id, delivery.body))
