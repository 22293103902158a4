"""The whole fleet from one command: what has to be right and done before its first process, then its supervisor.

A user's mistake ends it here, in one line, before anything is started. Main thread of its own process.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from busmon import status
from busmon.bus import topology
from busmon.bus.declare import ensure
from busmon.catalogue import Catalogue
from busmon.errors import BusError, RegistryError
from busmon.fleet import parent
from busmon.fleet.directory import held, prepare
from busmon.fleet.process import Child, Inheritance
from busmon.fleet.supervisor import Supervisor
from busmon.registry.shard.recover import recover
from busmon.settings import Settings, limits
from busmon.settings.listening import bound

log = structlog.get_logger(__name__)

# Not the working directory: what lies there must not stand in for a module of the standard library.
BUSMON = (sys.executable, "-P", "-m", "busmon")


def run(settings: Settings) -> int:
    """Start the fleet and supervise it until it is told to stop; returns the exit status.

    Raises:
        RegistryError: what a killed fleet left can't be finished.
        UserError: something is set up wrong: the catalogue, the topology, the directory, the address; or another
            fleet runs in the directory.
    """
    # Until the workers have started there is no catalogue to reload: each reads it as it starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Catalogue.load(settings.catalogue)
    wanted = topology.load(settings.topology, settings.exchange)
    limits.require(wanted.shards)
    prepare(settings)
    with held(settings.registry_dir) as lock, parent.lifeline() as lifeline:
        _clear(settings.registry_dir)
        # The exporter binds it again, once workers consume: an address that can't be had is to stop the fleet before.
        bound(settings.listen).close()
        _declare(wanted, settings)
        workers = [worker(shards) for shards in deal(wanted.shards, settings.workers)]
        inheritance = Inheritance(settings.environment(), lifeline, lock)
        return Supervisor(settings, workers, exporter(), inheritance).run()


def _clear(directory: Path) -> None:
    """Finish and take away what a killed fleet left."""
    status.clear_workers(directory)
    try:
        redone = recover(directory)
    except OSError as error:
        raise RegistryError(f"{directory}: can't finish what a killed worker began: {error.strerror}") from error
    if redone:
        log.info("up.commits_redone", shards=redone)


def _declare(wanted: topology.Topology, settings: Settings) -> None:
    """Declare what the broker lacks; one that doesn't answer, or not to this user yet, the workers go on asking.

    Raises:
        TopologyError: something is missing and this user may not declare it, or is there and deals sources otherwise;
            the line names the next command.
    """
    try:
        if declared := ensure(wanted, settings.amqp_url, settings.management_url):
            log.info("up.topology_declared", path=str(wanted.path), objects=len(declared))
    except BusError as error:
        log.warning("up.topology_not_declared", cause=str(error), next="the workers go on trying; see amqp_url")


def deal(shards: int, workers: int) -> list[tuple[int, ...]]:
    """Which shards each worker owns: dealt in turn, so that none has two more than another, nor none at all."""
    owners = min(shards, workers)
    if owners < workers:
        log.warning("up.workers_without_shard", workers=workers, shards=shards, started=owners)
    return [tuple(range(first, shards, owners)) for first in range(owners)]


def worker(shards: Sequence[int]) -> Child:
    """The place of a worker; its number is its lowest shard's, so no two workers of a directory share one."""
    return Child(f"worker-{shards[0]}", (*BUSMON, "worker", "--shards", ",".join(map(str, shards)), "--supervised"))


def exporter() -> Child:
    """The place of the exporter."""
    return Child("exporter", (*BUSMON, "exporter", "--supervised"))
