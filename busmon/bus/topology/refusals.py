"""The changes that a declaration refuses, since they move sources to shards that don't know what was counted."""

from busmon.bus.connect.connection import virtual_host
from busmon.bus.connect.session import Session
from busmon.bus.topology.management import Management
from busmon.bus.topology.topology import Topology
from busmon.errors import BusError, TopologyError


def refuse_fewer_shards(session: Session, topology: Topology) -> None:
    """Refuse fewer shards than the broker has queues: a queue without a consumer would fill, or hide a backlog."""
    beyond = topology.fold_queue(topology.shards)
    if session.has_queue(beyond):
        raise TopologyError(
            f"queue {beyond!r} exists, but {topology.path} has shards = {topology.shards}: set the broker's "
            "number there, or drain and delete the queue first (docs/topology.md, 'Changing the number of shards')"
        )


def refuse_more_shards(topology: Topology, missing: list[str]) -> None:
    """Refuse more shards than the broker has queues: new shards take sources, so an operator decides when."""
    folds = [f"queue {topology.fold_queue(shard)!r}" for shard in range(topology.shards)]
    absent = [fold for fold in folds if fold in missing]
    if absent and len(absent) < len(folds):
        raise TopologyError(
            f"{absent[0]} is missing, but other shards exist: run `busmon topology declare` as an operator, "
            "once the others are drained (docs/topology.md, 'Changing the number of shards')"
        )


def refuse_another_deal(session: Session, topology: Topology, amqp_url: str, management_url: str | None) -> list[str]:
    """Refuse a ring with other arguments, which would move sources away from the shards that have their ids.

    AMQP neither reports nor compares a ring's arguments.

    Returns:
        A line if a ring exists and couldn't be compared.
    """
    ring = topology.ring
    if ring is None or not session.has_exchange(ring.exchange.name):
        return []
    what = f"ring {ring.exchange.name!r}"
    if management_url is None:
        return [f"{what}: not compared with the former ring, since management_url isn't set (BUSMON_MANAGEMENT_URL)"]
    try:
        found = Management(management_url).get("exchanges", virtual_host(amqp_url), ring.exchange.name)
    except BusError as error:
        return [f"{what}: not compared with the former ring: {error}"]
    wanted = ring.exchange.arguments
    there = found["arguments"] if found else wanted
    if different := sorted(key for key in {*wanted, *there} if wanted.get(key) != there.get(key)):
        on_broker, in_file = (arguments.get(different[0], "not set") for arguments in (there, wanted))
        raise TopologyError(
            f"{what}: {different[0]} is {on_broker} on the broker, but {in_file} in {topology.path}, which would move "
            "sources to shards that don't know what was counted: drain, stop the fleet, delete this exchange and "
            "declare again (docs/topology.md, 'Changing the number of shards')"
        )
    return []
