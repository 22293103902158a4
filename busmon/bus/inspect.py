"""Comparing a broker's definitions with the topology: each difference is a line for an operator.

Differences are what can cost a guarantee: something of ours missing, other than it should be, or bound where it
shouldn't. What others have on the same broker, queues of their own bound to our topic exchange included, is none.
Pure: it looks at definitions that somebody fetched.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from busmon.bus.definitions import Definitions
from busmon.bus.topology import CONSISTENT_HASH, Binding, Exchange, Queue, Topology, User
from busmon.bus.users import tags_of

Table = Mapping[str, Any]

# What a policy can say against the topology: a queue's own argument comes first, but of two limits the lower counts,
# and what has no argument is the policy's. An alternate exchange would take what should be returned to its publisher.
_WEAKENING = frozenset(
    {
        "alternate-exchange",
        "dead-letter-exchange",
        "dead-letter-routing-key",
        "delivery-limit",
        "expires",
        "max-length",
        "max-length-bytes",
        "message-ttl",
        "overflow",
    }
)

_APPLIES_TO = {"exchange": {"all", "exchanges"}, "queue": {"all", "queues", "quorum_queues"}}


def differences(topology: Topology, found: Definitions) -> list[str]:
    """How the broker differs from the topology, a line each; empty where it doesn't.

    What `found` couldn't see is not compared, nor is what isn't durable while it's missing: the fleet makes it again.
    """
    return [
        *(line for exchange in topology.exchanges for line in _of_exchange(exchange, found)),
        *(line for queue in topology.queues for line in _of_queue(queue, found)),
        *_beyond(topology, found),
        *_of_bindings(topology, found),
        *(line for name in _names(topology) for line in _of_policies(*name, found)),
        *(line for user in topology.users for line in _of_user(user, found)),
    ]


def _of_exchange(exchange: Exchange, found: Definitions) -> Iterator[str]:
    what = f"exchange {exchange.name!r}"
    table = found.exchanges.get(exchange.name)
    if table is None:
        if exchange.durable:
            yield f"{what}: is missing"
        return
    if table["type"] != exchange.type:
        yield f"{what}: type is {table['type']!r}, should be {exchange.type!r}"
    yield from _of_lasting(what, table, durable=exchange.durable)
    yield from _of_arguments(what, exchange.arguments, table["arguments"])


def _of_queue(queue: Queue, found: Definitions) -> Iterator[str]:
    what = f"queue {queue.name!r}"
    table = found.queues.get(queue.name)
    if table is None:
        yield f"{what}: is missing"
        return
    yield from _of_lasting(what, table, durable=True)
    yield from _of_arguments(what, queue.arguments, table["arguments"])


def _of_lasting(what: str, table: Table, *, durable: bool) -> Iterator[str]:
    if table["durable"] != durable:
        yield f"{what}: is durable, should not be" if table["durable"] else f"{what}: is not durable"
    if table["auto_delete"]:
        yield f"{what}: deletes itself (auto-delete)"


def _of_arguments(what: str, wanted: Table, found: Table) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if key not in found:
            yield f"{what}: {key} is not set, should be {wanted[key]!r}"
        elif key not in wanted:
            yield f"{what}: {key} is {found[key]!r}, should not be set"
        elif wanted[key] != found[key] or isinstance(wanted[key], bool) != isinstance(found[key], bool):
            yield f"{what}: {key} is {found[key]!r}, should be {wanted[key]!r}"


def _beyond(topology: Topology, found: Definitions) -> Iterator[str]:
    """Queues that the broker has for another number of shards: nobody consumes them."""
    ours = {queue.name for queue in topology.queues}
    for name in sorted(found.queues.keys() - ours):
        if re.fullmatch(re.escape(topology.exchange) + r"\.(fold\.[0-9]+|waiting)", name):
            yield f"queue {name!r}: is consumed by nobody, for shards = {topology.shards}"


def _of_bindings(topology: Topology, found: Definitions) -> Iterator[str]:
    present = [_binding(table) for table in found.bindings]
    unmade = topology.ring.bindings if topology.ring and topology.ring.exchange.name not in found.exchanges else ()
    for binding in topology.bindings:
        if binding not in present and binding not in unmade:
            yield f"binding {binding}: is missing"
    for binding in present:
        if binding not in topology.bindings and _harms(topology, binding):
            yield f"binding {binding}: should not be there"


def _binding(table: Table) -> Binding:
    return Binding(
        table["source"], table["destination"], table["destination_type"], table["routing_key"], table["arguments"]
    )


def _harms(topology: Topology, binding: Binding) -> bool:
    """Whether it brings us what isn't ours, or the same twice, or takes what the ring deals or the gate lets wait."""
    closed = {
        exchange.name
        for exchange in topology.exchanges
        if exchange.type == CONSISTENT_HASH or "alternate-exchange" in exchange.arguments
    }
    ours = (binding.destination_type, binding.destination) in _names(topology)
    # Every queue is bound to the nameless exchange by its own name; that can't be undone.
    return (ours and binding.source != "") or binding.source in closed


def _names(topology: Topology) -> list[tuple[str, str]]:
    """Every object of ours: its kind and its name."""
    return [
        *(("exchange", exchange.name) for exchange in topology.exchanges),
        *(("queue", queue.name) for queue in topology.queues),
    ]


def _of_policies(kind: str, name: str, found: Definitions) -> Iterator[str]:
    for policy in found.policies:
        weakened = sorted(_WEAKENING.intersection(dict(policy["definition"])))
        if weakened and policy["apply-to"] in _APPLIES_TO[kind] and _matches(policy["pattern"], name):
            yield f"{kind} {name!r}: policy {policy['name']!r} sets {', '.join(weakened)}"


def _matches(pattern: str, name: str) -> bool:
    """Whether RabbitMQ would apply the pattern; one that Python doesn't know is taken to match, to be looked at."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


def _of_user(user: User, found: Definitions) -> Iterator[str]:
    if found.users is None or found.permissions is None:
        return
    what = f"user {user.name!r}"
    table = found.users.get(user.name)
    if table is None:
        yield f"{what}: is missing"
        return
    if absent := set(user.tags) - tags_of(table):
        yield f"{what}: has no tag {', '.join(sorted(absent))}"
    permissions = found.permissions.get(user.name)
    if permissions is None:
        yield f"{what}: has no permissions in virtual host {found.virtual_host!r}"
        return
    for right, pattern in (("configure", user.configure), ("write", user.write), ("read", user.read)):
        if permissions[right] != pattern:
            yield f"{what}: may {right} {permissions[right]!r}, should be {pattern!r}"
