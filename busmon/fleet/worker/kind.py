"""The check before a worker's start that its directory and its broker are those of its kind of fleet.

With replication the totals are in the broker's logs, and without it in the directory. One kind would miss what the
other counts. `busmon up` checks the same before its workers start.
"""

import structlog

from busmon.bus.connect.connection import translating
from busmon.bus.connect.session import Session
from busmon.bus.topology import logs
from busmon.bus.topology import topology as topologies
from busmon.errors import BusError
from busmon.registry.shard import replica
from busmon.settings import Settings

_log = structlog.get_logger(__name__)


def require_kind(settings: Settings) -> None:
    """Require that neither the directory nor the broker is the other kind's; a broker that doesn't answer may be.

    Raises:
        RegistryError: the directory is the other kind's.
        TopologyError: a log is missing, or exists while replication is off.
    """
    topology = topologies.load(settings.topology, settings.exchange, settings.replication)
    replica.require_kind(settings.registry_dir, topology.shards, are_replicas=bool(topology.logs))
    try:
        with Session(settings.amqp_url, "busmon worker") as session, translating():
            logs.require(session, topology)
    except BusError as error:
        _log.warning("kind.broker_not_asked", cause=str(error))
