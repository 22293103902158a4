"""The whole fleet from one command: the checks and steps before its first process, then its supervisor.

A user's mistake ends the command here, in one line, before any process starts. Main thread of its own process.
"""

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from busmon import garbage, status
from busmon.bus.topology import topology
from busmon.bus.topology.declare import ensure
from busmon.catalogue import Catalogue
from busmon.errors import BusError, LoginRefusedError, RegistryError, SettingsError
from busmon.fleet.supervisor import parent
from busmon.fleet.supervisor.directory import hold, prepare
from busmon.fleet.supervisor.process import FleetProcess, Inheritance
from busmon.fleet.supervisor.supervisor import Supervisor
from busmon.registry.shard import replica
from busmon.registry.shard.recover import recover
from busmon.settings import Settings, limits
from busmon.settings.listening import open_listener

log = structlog.get_logger(__name__)

# Not the working directory: its files must not shadow modules of the standard library.
BUSMON = (sys.executable, "-P", "-m", "busmon")


def run(settings: Settings) -> int:
    """Start the fleet and supervise it until it is told to stop; return the exit status.

    Raises:
        RegistryError: the commits of a killed fleet can't be finished, or the directory has files of the other kind.
        UserError: the catalogue, the topology, the directory or the address is wrong; or another fleet runs in the
            directory.
    """
    # Until the workers have started there is no catalogue to reload: each reads it as it starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Catalogue.load(settings.catalogue)
    wanted = topology.load(settings.topology, settings.exchange, settings.replication)
    limits.require(wanted.shards)
    if wanted.logs and settings.standby_seconds:
        raise SettingsError(
            f"standby_seconds from {settings.origin('standby_seconds')}: expected 0 with replication, since each host "
            "takes over shards"
        )
    if not settings.registry_dir.exists():  # where it exists, a killed fleet may have the address for a moment longer
        open_listener(settings.listen).close()
    prepare(settings)
    with hold(settings.registry_dir) as lock, parent.lifeline() as lifeline:
        replica.require_kind(settings.registry_dir, wanted.shards, are_replicas=bool(wanted.logs))
        _clear(settings.registry_dir, are_replicas=bool(wanted.logs))
        # The exporter binds the address again. An address in use stops the fleet here, before workers consume.
        open_listener(settings.listen).close()
        _declare(wanted, settings)
        workers = [worker(shards) for shards in deal(wanted.shards, settings.workers)]
        inheritance = Inheritance(settings.environment(), lifeline, lock)
        return Supervisor(settings, workers, exporter(), inheritance).run()


def _clear(directory: Path, *, are_replicas: bool) -> None:
    """Finish the commits of a killed fleet, and remove its status files; workers begin replicas again."""
    status.clear_workers(directory)
    if are_replicas:
        return
    try:
        redone = recover(directory)
    except OSError as error:
        raise RegistryError(f"{directory}: can't finish what a killed worker began: {error.strerror}") from error
    garbage.give_back()
    if redone:
        log.info("up.commits_redone", shards=redone)


def _declare(wanted: topology.Topology, settings: Settings) -> None:
    """Declare the objects that the broker lacks; if the broker doesn't answer, the workers retry.

    Raises:
        SettingsError: the broker refuses the login; the line names the user and the setting.
        TopologyError: an object is missing and this user may not declare it, or an object deals sources differently;
            the line names the next command.
    """
    try:
        if declared := ensure(wanted, settings.amqp_url, settings.management_url):
            log.info("up.topology_declared", path=str(wanted.path), objects=len(declared))
    except LoginRefusedError as error:
        where = f"amqp_url from {settings.origin('amqp_url')}"
        raise SettingsError(f"{where}: {error}{settings.default_broker_hint()}") from error
    except BusError as error:
        then = "the workers retry until the broker answers, at most 10 s apart; see amqp_url"
        log.warning("up.topology_not_declared", cause=str(error), next=then)


def deal(shards: int, workers: int) -> list[tuple[int, ...]]:
    """Deal the shards to workers in turn: each has at least one, and at most one more than another."""
    owners = min(shards, workers)
    if owners < workers:
        log.warning("up.workers_without_shard", workers=workers, shards=shards, started=owners)
    return [tuple(range(first, shards, owners)) for first in range(owners)]


def worker(shards: Sequence[int]) -> FleetProcess:
    """Make the place of a worker; its number is its lowest shard's, so it is unique in the directory."""
    return FleetProcess(
        f"worker-{shards[0]}", (*BUSMON, "worker", "--shards", ",".join(map(str, shards)), "--supervised")
    )


def exporter() -> FleetProcess:
    """Make the place of the exporter."""
    return FleetProcess("exporter", (*BUSMON, "exporter", "--supervised"))
