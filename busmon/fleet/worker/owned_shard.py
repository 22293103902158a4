"""One shard that the worker owns: its files, lane, pace and housekeeping, opened and closed together.

The shard's status is made here from its parts. One thread, the consumer's.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import structlog

from busmon.bus.consume.consumer import Consumer
from busmon.bus.consume.depths import Depth
from busmon.bus.log.shard_log import ShardLog
from busmon.bus.topology.topology import Topology
from busmon.catalogue.family import Family
from busmon.fleet.worker.celery_watch import CeleryWatch
from busmon.fleet.worker.drops import DropCount
from busmon.fleet.worker.housekeeping import Upkeep
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.owned_log import OwnedLog
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.pace import Later, Pace
from busmon.fleet.worker.paced_log import PacedLog
from busmon.fleet.worker.quarantine_shares import QuarantineShares
from busmon.fleet.worker.replication import Replication
from busmon.fleet.worker.standby import Standby
from busmon.fleet.worker.suspects import Suspects
from busmon.fleet.worker.taken import TakenMark
from busmon.fleet.worker.trigger import Trigger
from busmon.fleet.worker.waiting import Waiting
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.families import Families
from busmon.registry.operator import requests
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.registry.shard.shard import Shard
from busmon.settings import Settings
from busmon.status import ConsumerState, ShardStatus
from busmon.wire.formats import Formats

LOCK_WAIT_SECONDS = 5.0
DROPS_SHARD = 0
"""The owner of this shard counts the quarantine's drops, forwards waiting envelopes, and finds rivals."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SharedParts:
    """The parts of a worker that its shards share.

    Attributes:
        settings: the fleet's.
        topology: names the queues.
        ownership: the rules for the users of deliveries.
        families: the fleet's.
        paced_log: takes the lines that publishers cause.
        consumer: delivers and settles.
        later: the loop's timer.
        dealt_at: the start of the present deal of sources to shards, in seconds since the epoch.
        tell: writes the worker's status.
        tell_life: writes the worker's status during work that may take long.
        tell_reading: writes the worker's status before the files of a shard's replica are replaced, or ends the worker.
    """

    settings: Settings
    topology: Topology
    ownership: Ownership
    families: Families
    paced_log: PacedLog
    consumer: Consumer
    later: Later
    dealt_at: float
    tell: Callable[[], None]
    tell_life: Callable[[], None]
    tell_reading: Callable[[int], None]


class OwnedShard:
    """The parts of one shard.

    Args:
        number: the shard's.
        worker: the parts that the shards of a worker share.
        catalogued: the families whose bounded series are made at once.

    Attributes:
        number: the shard's.
        queue: the shard's.
        drops: counts the quarantine's drops; None in any shard but `DROPS_SHARD`.

    Raises:
        ShardOwnedError: another process owns the shard.
        RegistryError: the shard's files are damaged, or can't be read or written.
        OSError: there is no disk space for the files.
    """

    def __init__(self, number: int, worker: SharedParts, catalogued: Iterable[Family]) -> None:
        self.number = number
        self.queue = worker.topology.fold_queue(number)
        self._worker = worker
        settings, consumer = worker.settings, worker.consumer
        self._replica: Replication | None = None
        with ExitStack() as files:
            self._shard = self._open(catalogued, files)
            self._suspects = Suspects(settings.registry_dir, number)
            files.callback(self._suspects.close)
            self._lane = self._make_lane()
            self._files = files.pop_all()
        is_drops = number == DROPS_SHARD
        queues = self._fed = [self.queue, worker.topology.dropped] if is_drops else [self.queue]
        self._pace = Pace(
            self._lane,
            worker.later,
            settings.flush_interval_seconds,
            at_failure=partial(consumer.suspend, queues),
            at_recovery=self._resume,
            at_change=worker.tell,
        )
        self._upkeep = Upkeep(self._shard, self._lane, self._pace)
        self._celery = CeleryWatch(
            self._shard,
            self._lane,
            self._pace,
            look_up=consumer.look_up,
            silent_seconds=settings.presence_ttl_seconds,
            most_waiting=settings.prefetch,
        )
        self._taken = TakenMark(settings.registry_dir, number, settings.standby_seconds)
        self._standby = Standby(settings.standby_seconds, is_taken=self._taken.is_valid())
        self._waiting = Waiting(settings.flush_interval_seconds)
        self._waiting_seconds: float | None = None
        self._depth: int | None = None
        self._is_served = False
        if isinstance(self._shard, ReplicatedShard):
            self._replica = self._replicate(self._shard, [*catalogued])
        consumer.consume(self.queue, self._replica or self._pace)
        self.drops = self._count_drops() if is_drops else None

    def _open(self, catalogued: Iterable[Family], files: ExitStack) -> Shard:
        """Open the shard's files; `files` closes them."""
        settings = self._worker.settings
        kind = ReplicatedShard if self._worker.topology.logs else Shard
        shard = kind.open(
            settings.registry_dir,
            self.number,
            self._worker.families,
            fsync=settings.fsync == "commit",
            wait_seconds=LOCK_WAIT_SECONDS,
            progress=self._worker.tell_life,
            at_reading=partial(self._worker.tell_reading, self.number),
        )
        files.callback(shard.close)
        shard.limit(Budgets.of(settings))
        if isinstance(shard, ReplicatedShard):  # which lacks what the log has since
            if shard.fault:
                _log.warning("owned_shard.replica_refused", shard=self.number, cause=shard.fault)
            return shard
        shard.follow_dealing(self._worker.dealt_at)
        shard.rewind(time.time())
        if shard.replayed:
            _log.warning("worker.journal_replayed", shard=self.number)
        shard.expose_at_zero(catalogued)
        shard.commit(time.time())
        return shard

    def _replicate(self, shard: ReplicatedShard, catalogued: Sequence[Family]) -> Replication:
        """Make the driver of the shard's log."""
        worker, topology, settings = self._worker, self._worker.topology, self._worker.settings
        name = f"busmon log {self.number} on {settings.host_name}"
        log = ShardLog(
            settings.amqp_url,
            name,
            exchange=topology.log_exchange,
            stream=topology.log_stream(self.number),
            routing_key=str(self.number),
        )
        followed = OwnedLog(
            shard,
            log,
            number=self.number,
            host=settings.host_name,
            kept_bytes=topology.log_kept_bytes,
            progress=worker.tell_life,
            at_reading=partial(worker.tell_reading, self.number),
        )
        return Replication(
            followed=followed,
            shard=shard,
            lane=self._lane,
            pace=self._pace,
            consumer=worker.consumer,
            queue=self.queue,
            others=self._all_queues()[1:],
            later=worker.later,
            at_owning=partial(self._prepare_owning, shard, catalogued),
        )

    def _prepare_owning(self, shard: ReplicatedShard, catalogued: Iterable[Family]) -> None:
        """Make in the open batch what only an owner makes."""
        shard.follow_dealing(self._worker.dealt_at)
        shard.expose_at_zero(catalogued)

    def _make_lane(self) -> Lane:
        settings = self._worker.settings
        return Lane(
            self._shard,
            self._suspects,
            self._worker.consumer,
            number=self.number,
            queue=self.queue,
            batch_size=min(settings.batch_size, settings.prefetch),
            formats=Formats(
                settings.formats, self.queue, settings.max_body_bytes, self._worker.topology.celery_exchanges
            ),
            ownership=self._worker.ownership,
            shares=QuarantineShares.of(self._worker.topology),
            paced_log=self._worker.paced_log,
            progress=self._worker.tell_life,
        )

    def _count_drops(self) -> DropCount:
        worker, queue = self._worker, self._worker.topology.dropped
        drops = DropCount(self._shard, self._pace, worker.consumer, queue, worker.later)
        worker.consumer.consume(queue, drops)
        return drops

    @property
    def status(self) -> ShardStatus:
        """Return the shard's status, made from its parts."""
        stands_by = self._standby.is_waiting and self._pace.state == ConsumerState.SUSPENDED
        return ShardStatus(
            self.number,
            self.queue,
            "standby" if stands_by else self._pace.state,
            self._standby.reason if stands_by else self._pace.cause,
            queue_depth=self._depth,
            last_commit_at=self._lane.committed_at,
            waiting_seconds=None if stands_by else self._waiting_seconds,
            is_served=self._is_served,
            replica=None if self._replica is None else self._replica.status,
        )

    @property
    def obstacles(self) -> list[str]:
        """Return the obstacles on the way to the shard, a line each."""
        drops = [self.drops.obstacle] if self.drops and self.drops.obstacle else []
        return drops if self._replica is None else [*drops, *self._replica.obstacles]

    def stand_by(self) -> None:
        """Consume nothing yet, if the host is a standby or its replica isn't read; called with the consumer's start.

        The gauges of the worker's former life leave before the shard says that it stands by.
        """
        if self._replica is not None:
            self._replica.start()
        elif self._standby.is_waiting:
            self._upkeep.beat(time.time(), self._worker.settings.registry_dir)
            self._worker.consumer.suspend(self._all_queues())

    def _resume(self) -> None:
        if self._replica is not None:
            self._replica.resume()
        elif not self._standby.is_waiting:
            self._worker.consumer.resume(self._fed)

    def _take_over(self) -> None:
        """Consume from now on; while the files take no commit, only from queues that don't need the files."""
        _log.warning("owned_shard.taken_over", shard=self.number, queue=self.queue)
        self._taken.beat()
        fed = self._fed if self._pace.error else []
        self._worker.consumer.resume([queue for queue in self._all_queues() if queue not in fed])

    def _all_queues(self) -> list[str]:
        topology = self._worker.topology
        return [*self._fed, topology.waiting] if topology.ring and self.number == DROPS_SHARD else self._fed

    def beat(self, now: float) -> None:
        """Look after the shard, once a second, and ask how deep its queue is.

        The sources of a shard that is not consumed from are heard elsewhere: their gauges leave at once.
        """
        settings = self._worker.settings
        self._worker.consumer.depth(self.queue, self._note_depth)
        self._suspects.forget(now)
        if self._replica is not None:
            self._replica.beat(now, is_asked=bool(requests.pending(settings.registry_dir, self.number)))
            if not self._replica.is_owning:
                self._celery.rest()
                return
        ttl_seconds = 0.0 if self._standby.is_waiting else settings.presence_ttl_seconds
        if settings.standby_seconds and not self._standby.is_waiting:
            self._taken.beat()
        self._upkeep.beat(now - ttl_seconds, settings.registry_dir)
        self._celery.beat(now, self._depth, stands_by=self._standby.is_waiting)

    def _note_depth(self, depth: Depth) -> None:
        """Note the queue's depth; a body that waits for the quarantine's confirm is committed already."""
        queue, consumer = self.queue, self._worker.consumer
        if self._standby.note(depth.consumers, time.monotonic()):
            self._take_over()
        unserved_seconds = consumer.measure_unserved_seconds(queue)
        ttl_seconds = self._worker.settings.presence_ttl_seconds
        self._is_served = unserved_seconds is not None and unserved_seconds <= ttl_seconds
        self._depth = None if depth.ready is None else depth.ready + consumer.count_unsettled(queue)
        uncommitted = None if self._depth is None else self._depth - consumer.count_held(queue)
        self._waiting_seconds = self._waiting.note(uncommitted, self._lane.committed_at, time.monotonic())

    def follow(self, families: Iterable[Family]) -> None:
        """Make the bounded series of these families with the next beat."""
        self._upkeep.follow(families)

    def reroute(self) -> None:
        """Resolve the samples' families again after a change of the families."""
        self._shard.fold.reroute()

    def follow_step(self, seconds: float) -> None:
        """Adapt to a step of the wall clock by so many seconds."""
        if self._replica is None:
            self._shard.follow_step(seconds, time.time())
        elif self._replica.is_owning:  # a follower's times are those of the log
            self._pace.run(partial(self._shard.follow_step, seconds, time.time()))

    def drain(self) -> None:
        """Commit and settle all deliveries, and let the shard go."""
        self._pace.close(Trigger.DRAIN)
        if self._replica is not None:
            self._replica.drain()
        self._taken.remove()

    def close(self) -> None:
        """Close the files; another process may open the shard from here on."""
        if self._replica is not None:
            self._replica.close()
        self._files.close()
