"""Which bucket of the hash ring is which shard's, on a RabbitMQ that forgets it.

The consistent-hash exchange of RabbitMQ 3.10 keeps its ring in memory, and fills it after a restart in whatever order
the bindings come back. Most sources then belong to another shard, whose ledger doesn't know what they sent before: an
envelope that was stored before the restart and is sent again after it, since its confirm was lost, counts twice.
"""

from operator import methodcaller

from busmon.bus.session import Session
from busmon.bus.topology import CONSISTENT_HASH, Topology


def put_in_order(topology: Topology, amqp_url: str) -> None:
    """Bind the shards anew, in their order; meanwhile nobody may publish."""
    rings = {exchange.name for exchange in topology.exchanges if exchange.type == CONSISTENT_HASH}
    bindings = [binding for binding in topology.bindings if binding.source in rings]
    with Session(amqp_url, "busmon soak") as session:
        for change in ("queue_unbind", "queue_bind"):
            for binding in bindings:
                session.call(methodcaller(change, binding.destination, binding.source, binding.routing_key))
