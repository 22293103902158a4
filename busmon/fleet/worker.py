"""A worker process: it owns some shards, and on one loop runs their lanes between the broker and their files.

The loop is pika's; everything happens on it. Signals come in through a pipe that the loop watches, so that none
interrupts a commit. On SIGTERM it drains: consuming stops, open batches are committed and acknowledged, connections
and files are closed. How a lane goes is `lane.py`; when, `pace.py`.
"""

import gc
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog
from pika.adapters.select_connection import IOLoop, PollEvents

from busmon import status as statuses
from busmon.bus import topology as topologies
from busmon.bus.connection import address
from busmon.bus.consumer import Consumer
from busmon.bus.delivery import Delivery
from busmon.bus.depths import Depth
from busmon.catalogue.catalogue import Catalogue
from busmon.errors import CatalogueError, RegistryError, TopologyError
from busmon.fleet.clock import Steps
from busmon.fleet.drops import DropCount
from busmon.fleet.lane import Lane
from busmon.fleet.ownership import Ownership
from busmon.fleet.pace import Pace
from busmon.fleet.rivals import Rivals
from busmon.fleet.signals import Inbox, inbox
from busmon.fleet.suspects import Suspects
from busmon.fleet.trigger import Trigger
from busmon.fleet.upkeep import Upkeep
from busmon.fleet.waiting import Waiting
from busmon.registry.admission.budgets import Budgets
from busmon.registry.admission.families import MAX_NAMED, Families
from busmon.registry.shard.dealt import dealt_since
from busmon.registry.shard.shard import Shard
from busmon.settings import Settings, limits
from busmon.status import ShardStatus, WorkerStatus
from busmon.wire.formats import Formats

if TYPE_CHECKING:
    from busmon.registry.principal import Principal

BEAT_SECONDS = 1.0
NEARLY_SPENT = 0.8
"""The share of the budget of metrics that no catalogue names, from which on it is said."""
LOCK_WAIT_SECONDS = 5.0
DROPS_SHARD = 0
"""The owner of this shard counts what the quarantine drops, forwards what waited for the ring, and sees rivals."""

_log = structlog.get_logger(__name__)


def run(settings: Settings, shards: Sequence[int], number: int) -> int:
    """Consume these shards until SIGTERM or SIGINT; the exit status.

    Raises:
        UserError: a setting, the catalogue or the topology is wrong, or another process owns a shard.
        RegistryError: a shard's files aren't what they should be, or there is no room for them.
    """
    limits.require(len(shards))
    with inbox(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        worker = _opened(settings, shards, number)
        try:
            worker.run(signals)
        finally:
            worker.close()
    return 0


class Worker:
    """The lanes of one process, and the loop that they run on."""

    def __init__(self, settings: Settings, shards: Sequence[int], number: int) -> None:
        self._settings = settings
        self._topology = topologies.load(settings.topology, settings.exchange)
        if unknown := [shard for shard in shards if shard >= self._topology.shards]:
            raise TopologyError(
                f"shard {unknown[0]}: {self._topology.path} has the shards 0 to {self._topology.shards - 1}"
            )
        self._ownership = Ownership.of(settings, self._topology)
        if settings.source_ownership != "off" and not self._ownership.is_checked:
            advice = 'name the certificate\'s user in amqp_url, or set source_ownership = "off"'
            _log.warning("worker.source_ownership_unchecked", because="amqp_url names no user", next=advice)
        self._status = WorkerStatus(number, os.getpid(), time.time(), broker=address(settings.amqp_url))
        self._catalogue = Catalogue.load(settings.catalogue)
        self._families = Families(settings.registry_dir, self._catalogue, settings.max_adopted_families)
        self._name_refused(self._families.refused())
        self._routed_generation = self._families.generation
        self._unadopted_named: set[Principal] = set()
        self._is_nearly_spent = False
        self._shards: list[Shard] = []
        self._suspects: list[Suspects] = []
        self._lanes: dict[str, Lane] = {}
        self._paces: dict[str, Pace] = {}
        self._upkeeps: list[Upkeep] = []
        self._waits: dict[str, Waiting] = {}
        self._drops: DropCount | None = None
        self._rivals = Rivals(self._topology.dropped)
        self._dealt_at = self._noted_deal(time.time())
        self._ioloop = IOLoop()
        self._steps = Steps()
        self._told_at = 0.0
        try:
            for shard in shards:
                self._open(shard)
        except BaseException:
            self.close()
            raise
        self._consumer = self._connected_consumer(number)

    def _noted_deal(self, now: float) -> float:
        """Since when sources are dealt to shards as the topology says."""
        ring, shards = self._topology.ring, self._topology.shards
        dealt_by = dict(ring.exchange.arguments) if ring else {}
        since = dealt_since(self._settings.registry_dir, shards, dealt_by, now)
        if since == now:
            advice = "what was counted before and is sent again may count twice; see docs/topology.md"
            _log.warning("worker.sources_dealt_otherwise", shards=shards, dealt_by=dealt_by, next=advice)
        return since

    def _open(self, number: int) -> None:
        shard = Shard.open(
            self._settings.registry_dir,
            number,
            self._families,
            fsync=self._settings.fsync == "commit",
            wait_seconds=LOCK_WAIT_SECONDS,
            progress=self._tell_life,
        )
        self._shards.append(shard)
        shard.rewind(time.time())
        shard.limit(Budgets.of(self._settings))
        shard.fold.streams.horizon = max(shard.fold.streams.horizon, self._dealt_at)
        if shard.replayed:
            _log.warning("worker.journal_replayed", shard=number)
        shard.expose_at_zero(self._catalogue.families.values())
        shard.commit(time.time())
        suspects = Suspects(self._settings.registry_dir, number)
        self._suspects.append(suspects)
        state = ShardStatus(number, self._topology.fold_queue(number))
        self._status.shards.append(state)
        lane = self._lanes[state.queue] = Lane(
            shard,
            suspects,
            state,
            batch_size=min(self._settings.batch_size, self._settings.prefetch),
            formats=Formats(self._settings.formats, state.queue, self._settings.max_body_bytes),
            ownership=self._ownership,
        )
        lane.progress = self._tell_life
        later = self._ioloop.call_later
        pace = self._paces[state.queue] = Pace(lane, later, self._settings.flush_interval_seconds)
        self._upkeeps.append(Upkeep(shard, lane, pace))
        self._waits[state.queue] = Waiting(self._settings.flush_interval_seconds)
        if number == DROPS_SHARD:
            self._drops = DropCount(shard, pace, self._topology.dropped, later)

    def _tell_life(self) -> None:
        """Say that the worker lives while it opens a shard or folds what arrived together, which may take long."""
        if time.monotonic() - self._told_at < BEAT_SECONDS:
            return
        self._told_at, self._status.beat_at = time.monotonic(), time.time()
        with suppress(OSError):
            statuses.write(self._settings.registry_dir, self._status)

    def _connected_consumer(self, number: int) -> Consumer:
        queues = [*self._lanes, *([self._topology.dropped] if self._drops else [])]
        consumer = Consumer(
            self._settings.amqp_url,
            queues=queues,
            quarantine_exchange=self._topology.quarantine,
            ring=self._topology.ring,
            waiting=self._topology.waiting if self._drops else "",
            prefetch=self._settings.prefetch,
            name=f"busmon worker {number}",
            listener=self,
            ioloop=self._ioloop,
            relays=self._ownership.relays,
            peeling=self._settings.plain_pika == "0",
        )
        for queue, lane in self._lanes.items():
            lane.settlement = consumer
            fed = [queue, self._topology.dropped] if lane.status.shard == DROPS_SHARD else [queue]
            self._paces[queue].at_failure = partial(consumer.suspend, fed)
            self._paces[queue].at_recovery = partial(consumer.resume, fed)
        if self._drops:
            self._drops.settlement = consumer
        return consumer

    # -- what the consumer says -----------------------------------------------------------------------------------

    def delivered(self, queue: str, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries into their lane's batch, or count them as the quarantine's drops."""
        if taker := self._paces.get(queue) or self._drops:
            taker.deliver(deliveries)

    def lost(self, queue: str, cause: str) -> None:  # noqa: ARG002 - the listener's contract; `changed` tells it, too
        """Forget what isn't committed: its deliveries come again."""
        if taker := self._paces.get(queue) or self._drops:
            taker.void()

    def changed(self, queue: str, state: str, cause: str) -> None:
        """Say how the queue's consumer is."""
        if taker := self._paces.get(queue) or self._drops:
            taker.change(state, cause)
        self._tell()

    # -- its life -------------------------------------------------------------------------------------------------

    def run(self, signals: Inbox) -> None:
        """Consume until a signal ends it."""
        _tune_collector()
        self._ioloop.add_handler(signals.fileno(), lambda *_: self._obey(signals.wait(0)), PollEvents.READ)
        self._consumer.start()
        self._beat()
        _log.info("worker.started", shards=[state.shard for state in self._status.shards])
        self._ioloop.start()
        _log.info("worker.stopped")

    def close(self) -> None:
        """Close every file; the shards may be opened by another process from here on."""
        for shard in self._shards:
            shard.close()
        for suspects in self._suspects:
            suspects.close()
        statuses.remove(self._settings.registry_dir, self._status)

    def _obey(self, numbers: Iterable[signal.Signals]) -> None:
        for number in numbers:
            if number is signal.SIGHUP:
                self._reload()
            else:
                self._drain()

    def _drain(self) -> None:
        _log.info("worker.draining")
        self._consumer.cancel(self._finish)

    def _finish(self) -> None:
        for pace in self._paces.values():
            pace.close(Trigger.DRAIN)
        self._consumer.close(self._ioloop.stop)

    def _reload(self) -> None:
        try:
            self._catalogue = Catalogue.load(self._settings.catalogue)
        except CatalogueError as error:
            _log.error("worker.reload_refused", error=str(error))
            return
        self._name_refused(self._families.reload(self._catalogue))
        self._reroute()
        for upkeep in self._upkeeps:
            upkeep.follow(self._catalogue.families.values())
        _log.info("worker.catalogue_reloaded", families=len(self._catalogue.families))

    def _name_refused(self, refused: Iterable[str]) -> None:
        for name in refused:
            advice = f"`busmon registry drop {name}` removes its series, and then the change counts"
            _log.warning(
                "worker.family_change_refused",
                family=name,
                because="it has series of another definition",
                next=advice,
            )

    def _name_unadopted(self) -> None:
        """Say which metrics aren't taken up, once for each principal, and that their budget is nearly spent."""
        for owner, detail in self._families.unadopted.items():
            if owner not in self._unadopted_named and len(self._unadopted_named) < MAX_NAMED:
                self._unadopted_named.add(owner)
                _log.warning("worker.metric_not_taken_up", agent=owner.agent, user=owner.user, detail=detail)
        self._families.unadopted.clear()
        used, budget = len(self._families.owners), self._families.max_adopted
        is_nearly_spent = used > 0 and used >= NEARLY_SPENT * budget
        if is_nearly_spent and not self._is_nearly_spent:
            (most, count), *_ = self._families.held().most_common(1)
            advice = f"`busmon registry drop --agent {most.agent} --dry-run` shows what it took"
            _log.warning(
                "worker.metrics_nearly_spent", used=used, budget=budget, most=str(most), its_metrics=count, next=advice
            )
        self._is_nearly_spent = is_nearly_spent

    def _beat(self) -> None:
        """Once a second: what the clock and other processes may have changed."""
        self._ioloop.call_later(BEAT_SECONDS, self._beat)
        self._follow_clock()
        self._families.refresh()
        self._name_unadopted()
        if self._families.generation != self._routed_generation:
            self._reroute()
        silent_since = time.time() - self._settings.presence_ttl_seconds
        for upkeep in self._upkeeps:
            upkeep.beat(silent_since, self._settings.registry_dir)
        for suspects in self._suspects:
            suspects.forget(time.time())
        for state in self._status.shards:
            self._consumer.depth(state.queue, partial(self._note_depth, state))
        if self._drops:
            self._consumer.depth(self._topology.dropped, lambda depth: self._rivals.note(depth.consumers))
            self._consumer.depth(self._topology.quarantine, self._note_quarantine)
        self._tell()

    def _follow_clock(self) -> None:
        """Tell the shards of a step of the wall clock."""
        if seconds := self._steps.step():
            _log.warning("worker.clock_stepped", seconds=round(seconds, 1))
            for shard in self._shards:
                shard.follow_step(seconds, time.time())

    def _note_depth(self, state: ShardStatus, depth: Depth) -> None:
        """Note what waits in a shard's queue; a body that waits for the quarantine's confirm is committed already."""
        queue, consumer = state.queue, self._consumer
        state.is_served = consumer.is_served(queue)
        state.queue_depth = None if depth.ready is None else depth.ready + consumer.unsettled(queue)
        uncommitted = None if state.queue_depth is None else state.queue_depth - consumer.held(queue)
        state.waiting_seconds = self._waits[queue].note(uncommitted, state.last_commit_at, time.monotonic())

    def _note_quarantine(self, depth: Depth) -> None:
        self._status.quarantined = depth.ready

    def _reroute(self) -> None:
        """Resolve where samples go again: the families have changed."""
        self._routed_generation = self._families.generation
        for shard in self._shards:
            shard.fold.reroute()

    def _tell(self) -> None:
        self._status.beat_at = time.time()
        self._status.reconnects = dict(self._consumer.reconnects)
        self._status.forwarded, self._status.obstacles = self._consumer.forwarded, self._consumer.obstacles
        self._status.has_rivals = bool(self._rivals.obstacle)
        more = (self._drops.obstacle if self._drops else "", self._rivals.obstacle)
        self._status.obstacles += [obstacle for obstacle in more if obstacle]
        with suppress(OSError):  # a full disk; the commit says so, and the old status stands
            statuses.write(self._settings.registry_dir, self._status)


def _opened(settings: Settings, shards: Sequence[int], number: int) -> Worker:
    try:
        return Worker(settings, shards, number)
    except OSError as error:
        said = str(error.strerror)
        named = said if said.startswith(str(settings.registry_dir)) else f"{error.filename}: {said}"
        raise RegistryError(f"{named}; the shard can't be opened") from error


def _tune_collector() -> None:
    """Let the garbage collector look rarely: deliveries die by their reference counts, and looking took a fifth of all.

    What stands at the start, modules and series, is never looked at again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
