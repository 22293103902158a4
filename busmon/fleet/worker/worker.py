"""A worker process, which owns some shards and runs them on one loop between the broker and their files.

The loop is pika's, and everything happens on it. Signals arrive through a pipe that the loop watches, so that no signal
interrupts a commit. On SIGTERM the worker drains: consuming stops, open batches are committed and acknowledged,
connections and files are closed. `owned_shard.py` has a shard's parts, and `lane.py` the path of its deliveries.
"""

import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from operator import attrgetter

import structlog
from pika.adapters.select_connection import IOLoop, PollEvents

from busmon import compiled, garbage
from busmon import status as statuses
from busmon.bus.connect.connection import address
from busmon.bus.consume.consumer import Consumer
from busmon.bus.consume.depths import Depth
from busmon.bus.topology import topology as topologies
from busmon.bus.topology.topology import Topology
from busmon.catalogue.catalogue import Catalogue
from busmon.errors import CatalogueError, RegistryError, TopologyError
from busmon.fleet.signals import Inbox, inbox
from busmon.fleet.worker.notices import FamilyNotices
from busmon.fleet.worker.owned_shard import DROPS_SHARD, OwnedShard, SharedParts
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.paced_log import PacedLog
from busmon.fleet.worker.rivals import Rivals
from busmon.registry.admission.families import Families
from busmon.registry.shard.resuming import find_position
from busmon.registry.storage.dealt import note_dealing
from busmon.settings import Settings
from busmon.status import ConsumerState, ReplicaStatus, ShardStatus, WorkerStatus
from busmon.wall_clock import ClockSteps

BEAT_SECONDS = 1.0

_STARTED = "the worker has just started"

_log = structlog.get_logger(__name__)


def run(settings: Settings, shards: Sequence[int], number: int) -> int:
    """Consume these shards until SIGTERM or SIGINT; return the exit status.

    Raises:
        UserError: a setting, the catalogue or the topology is wrong, or another process owns a shard.
        RegistryError: a shard's files are damaged, or there is no disk space for them.
    """
    with inbox(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        worker = _open(settings, shards, number)
        try:
            worker.run(signals)
        finally:
            worker.close()
    return 0


class Worker:
    """The shards of one process, their consumer, and the loop that they run on."""

    def __init__(self, settings: Settings, shards: Sequence[int], number: int) -> None:
        self._settings = settings
        self._topology = topologies.load(settings.topology, settings.exchange, settings.replication)
        if unknown := [shard for shard in shards if shard >= self._topology.shards]:
            raise TopologyError(
                f"shard {unknown[0]}: {self._topology.path} has the shards 0 to {self._topology.shards - 1}"
            )
        self._status = WorkerStatus(number, os.getpid(), time.time(), broker=address(settings.amqp_url))
        self._catalogue = Catalogue.load(settings.catalogue)
        self._families = Families(settings.registry_dir, self._catalogue, settings.max_adopted_families)
        self._paced_log = PacedLog()
        self._notices = FamilyNotices(self._families, self._paced_log)
        self._notices.name_refused(self._families.list_refused())
        self._routed_generation = self._families.generation
        self._rivals = Rivals(self._topology.dropped)
        self._ioloop = IOLoop()
        self._steps = ClockSteps()
        self._told_at = 0.0
        self._has_drops = DROPS_SHARD in shards
        self._shards: list[OwnedShard] = []
        ownership = _ownership(settings, self._topology)
        self._consumer = self._make_consumer(ownership)
        dealt_at = _note_deal(settings, self._topology)
        shared = SharedParts(
            settings,
            self._topology,
            ownership,
            self._families,
            self._paced_log,
            self._consumer,
            self._ioloop.call_later,
            dealt_at,
            self._tell,
            self._tell_life,
            self._tell_reading,
        )
        try:
            self._announce(shards)
            for shard in shards:
                self._shards.append(OwnedShard(shard, shared, self._catalogue.families.values()))
        except BaseException:
            self.close()
            raise

    @property
    def _on_host(self) -> str:
        """Return the part of a connection's name that tells the hosts of a replicated fleet apart."""
        return f" on {self._settings.host_name}" if self._topology.logs else ""

    def _make_consumer(self, ownership: Ownership) -> Consumer:
        return Consumer(
            self._settings.amqp_url,
            quarantine_exchange=self._topology.quarantine,
            ring=self._topology.ring,
            waiting=self._topology.waiting if self._has_drops else "",
            prefetch=self._settings.prefetch,
            name=f"busmon worker {self._status.worker}{self._on_host}",
            ioloop=self._ioloop,
            relays=ownership.relays,
            exchange=self._topology.exchange,
            peeling=self._settings.plain_pika == "0",
        )

    def _announce(self, shards: Sequence[int]) -> None:
        """Tell the exporter of the shards that are about to be opened, and of the replicas that are built again."""
        self._status.shards = [self._make_first_status(shard) for shard in shards]
        if self._topology.logs:
            self._require_status()
        else:
            self._write_status()

    def _make_first_status(self, shard: int) -> ShardStatus:
        status = ShardStatus(shard, self._topology.fold_queue(shard), ConsumerState.OPENING)
        if not self._topology.logs:
            return status
        position = find_position(self._settings.registry_dir, shard)
        is_whole = position is not None and position.is_whole
        status.replica = ReplicaStatus("interrupted" if is_whole else "reading", _STARTED)
        return status

    def run(self, signals: Inbox) -> None:
        """Consume until a signal ends it."""
        garbage.tune_for_deliveries()
        self._ioloop.add_handler(signals.fileno(), lambda *_: self._obey(signals.wait(0)), PollEvents.READ)
        self._consumer.start()
        for shard in self._shards:
            shard.stand_by()
        self._beat()
        _log.info("worker.started", shards=[shard.number for shard in self._shards], compiled=compiled.is_in_use())
        self._ioloop.start()
        _log.info("worker.stopped")

    def close(self) -> None:
        """Close every file; another process may open the shards from here on."""
        for shard in self._shards:
            shard.close()
        # Files of a replica that was being built are a part of the totals; they stay hidden while the status says so.
        if not any(shard.replica and shard.replica.state == "reading" for shard in self._status.shards):
            statuses.remove(self._settings.registry_dir, self._status)

    # -- signals ------------------------------------------------------------------------------------------------------

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
        for shard in self._shards:
            shard.drain()
        self._paced_log.close()
        self._consumer.close(self._ioloop.stop)

    def _reload(self) -> None:
        try:
            self._catalogue = Catalogue.load(self._settings.catalogue)
        except CatalogueError as error:
            _log.error("worker.reload_refused", error=str(error))
            return
        self._notices.name_refused(self._families.reload(self._catalogue))
        self._reroute()
        for shard in self._shards:
            shard.follow(self._catalogue.families.values())
        _log.info("worker.catalogue_reloaded", families=len(self._catalogue.families))

    # -- once a second ------------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Follow changes of the clock and of other processes."""
        self._ioloop.call_later(BEAT_SECONDS, self._beat)
        self._follow_clock()
        self._families.refresh()
        self._notices.name_unadopted()
        self._paced_log.beat()
        if self._families.generation != self._routed_generation:
            self._reroute()
        for shard in self._shards:
            shard.beat(time.time())
        if self._has_drops:
            self._consumer.depth(self._topology.dropped, self._note_rivals)
            self._consumer.depth(self._topology.quarantine, self._note_quarantine)
        self._tell()

    def _follow_clock(self) -> None:
        """Tell the shards of a step of the wall clock."""
        if seconds := self._steps.step():
            _log.warning("worker.clock_stepped", seconds=round(seconds, 1))
            for shard in self._shards:
                shard.follow_step(seconds)

    def _reroute(self) -> None:
        """Resolve the samples' families again after a change of the families."""
        self._routed_generation = self._families.generation
        for shard in self._shards:
            shard.reroute()

    def _note_rivals(self, depth: Depth) -> None:
        self._rivals.note(depth.consumers, self._consumer.losses)

    def _note_quarantine(self, depth: Depth) -> None:
        self._status.quarantined = depth.ready

    # -- its status ---------------------------------------------------------------------------------------------------

    def _tell_life(self) -> None:
        """Write a beat while the worker opens a shard or folds a large run of deliveries."""
        if time.monotonic() - self._told_at >= BEAT_SECONDS:
            self._write_status()

    def _tell(self) -> None:
        """Write the worker's whole status."""
        status, consumer = self._status, self._consumer
        status.reconnects, status.forwarded = dict(consumer.reconnects), consumer.forwarded
        status.has_rivals, status.rivals = self._rivals.are_possible, self._rivals.obstacle
        status.obstacles = [*consumer.obstacles, *(each for shard in self._shards for each in shard.obstacles)]
        self._write_status()

    def _tell_reading(self, shard: int) -> None:
        """Write the worker's status before a replica's files are replaced, or a scrape would show a part of them.

        Raises:
            RegistryError: the disk doesn't take the status, so the files must stay.
        """
        for status in self._status.shards:
            if status.shard == shard and status.replica is not None:
                status.replica.state = "reading"
        self._require_status()

    def _require_status(self) -> None:
        try:
            self._store_status()
        except OSError as error:
            directory = self._settings.registry_dir
            raise RegistryError(f"{directory}: the worker's status can't be written: {error}") from error

    def _write_status(self) -> None:
        with suppress(OSError):  # a full disk; the commit reports it, and the old status stays
            self._store_status()

    def _store_status(self) -> None:
        self._told_at, self._status.beat_at = time.monotonic(), time.time()
        opened = {shard.number: shard.status for shard in self._shards}
        announced = [status for status in self._status.shards if status.shard not in opened]
        self._status.shards = sorted([*opened.values(), *announced], key=attrgetter("shard"))
        statuses.write(self._settings.registry_dir, self._status)


def _open(settings: Settings, shards: Sequence[int], number: int) -> Worker:
    try:
        return Worker(settings, shards, number)
    except OSError as error:
        said = str(error.strerror)
        named = said if said.startswith(str(settings.registry_dir)) else f"{error.filename}: {said}"
        raise RegistryError(f"{named}; the shard can't be opened") from error


def _ownership(settings: Settings, topology: Topology) -> Ownership:
    """Return the rules for the users of deliveries; log if the settings require more than can be checked."""
    ownership = Ownership.of(settings, topology)
    if settings.source_ownership != "off" and not ownership.is_checked:
        advice = 'name the certificate\'s user in amqp_url, or set source_ownership = "off"'
        _log.warning("worker.source_ownership_unchecked", because="amqp_url names no user", next=advice)
    return ownership


def _note_deal(settings: Settings, topology: Topology) -> float:
    """Return the start of the topology's present deal of sources to shards, in seconds since the epoch."""
    ring, shards, now = topology.ring, topology.shards, time.time()
    dealt_by = dict(ring.exchange.arguments) if ring else {}
    since = note_dealing(settings.registry_dir, shards, dealt_by, now)
    if since == now:
        advice = "what was counted before and is sent again may count twice; see docs/topology.md"
        _log.warning("worker.sources_dealt_otherwise", shards=shards, dealt_by=dealt_by, next=advice)
    return since
