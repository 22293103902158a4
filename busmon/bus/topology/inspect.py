"""The comparison of a broker's definitions with the topology: each difference is a line for an operator.

A difference can break a guarantee: a missing object, an object with other arguments, or a wrong binding. Objects of
other systems on the broker are no difference, even their queues on the telemetry exchange. Pure: the definitions are
given.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from busmon.bus.connect.plugin import CONSISTENT_HASH
from busmon.bus.topology.definitions import Definitions
from busmon.bus.topology.topology import Binding, Exchange, Queue, Topology, User
from busmon.bus.topology.users import tags_of

Table = Mapping[str, Any]

# The keys by which a policy can weaken the topology. A queue's own argument has precedence, but the lower of two limits
# counts, and the policy sets missing arguments. An alternate exchange would take bodies that should be returned.
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

_RETENTION = frozenset({"max-age", "max-length-bytes", "stream-max-segment-size-bytes"})
"""The keys by which a policy changes what a log keeps."""

_APPLIES_TO = {
    "exchange": {"all", "exchanges"},
    "queue": {"all", "queues", "quorum_queues"},
    "stream": {"all", "queues", "streams"},
}


def differences(topology: Topology, found: Definitions) -> list[str]:
    """List the differences between the broker and the topology, a line each.

    Unseen objects are not compared. A missing object that isn't durable is no difference, since the fleet declares it
    again. A missing user is no difference: `missing_users` lists the missing users.
    """
    return [
        *(line for exchange in topology.exchanges for line in _of_exchange(exchange, found)),
        *(line for queue in (*topology.queues, *topology.logs) for line in _of_queue(queue, found)),
        *_beyond(topology, found),
        *_of_bindings(topology, found),
        *(line for name in _names(topology) for line in _of_policies(*name, found)),
        *(line for log in topology.logs for line in _of_log_policies(log, found)),
        *(line for user in topology.users for line in _of_user(user, found)),
    ]


def missing_users(topology: Topology, found: Definitions) -> list[str]:
    """List the topology's users that the broker doesn't have. A fleet may run as any user with the same rights."""
    return [] if found.users is None else [user.name for user in topology.users if user.name not in found.users]


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
    there = _drop_default_type(table["arguments"])
    yield from _of_arguments(what, _list_wanted(queue, there, found), there)


def _drop_default_type(arguments: Table) -> Table:
    """Return a queue's arguments without the type that RabbitMQ 4 adds where none is given."""
    return {key: value for key, value in arguments.items() if (key, value) != ("x-queue-type", "classic")}


def _list_wanted(queue: Queue, there: Table, found: Definitions) -> Table:
    """Return the arguments that a queue should have, given those that it has."""
    wanted = dict(queue.arguments_on(found.version))
    for key, value in queue.optional.items():
        if key in there:
            # A broker keeps an argument that it doesn't know: another version may have made the queue.
            wanted[key] = value
        elif key.removeprefix("x-") in _set_by_policies(queue, found):
            wanted.pop(key, None)
    return wanted if "x-queue-type" in there else _drop_default_type(wanted)


def _set_by_policies(queue: Queue, found: Definitions) -> set[str]:
    """Return the keys that policies set for a queue."""
    return {
        key
        for policy in found.policies
        if policy["apply-to"] in _APPLIES_TO["queue"] and _matches(policy["pattern"], queue.name)
        for key in dict(policy["definition"])
    }


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
    """Find the queues of another number of shards, which have no consumer."""
    ours = {queue.name for queue in (*topology.queues, *topology.logs)}
    for name in sorted(found.queues.keys() - ours):
        if re.fullmatch(re.escape(topology.exchange) + r"\.(fold\.[0-9]+|waiting)", name):
            yield f"queue {name!r}: is consumed by nobody, for shards = {topology.shards}"
        elif re.fullmatch(re.escape(topology.log_exchange) + r"\.[0-9]+", name):
            reason = f"shards = {topology.shards}" if topology.logs else "replication = off"
            yield f"log {name!r}: is read by nobody, for {reason}"


def _of_bindings(topology: Topology, found: Definitions) -> Iterator[str]:
    present = [_binding(table) for table in found.bindings]
    unmade = topology.ring.bindings if topology.ring and topology.ring.exchange.name not in found.exchanges else ()
    for binding in topology.bindings:
        if binding not in present and binding not in unmade:
            yield f"binding {binding}: is missing"
    for binding in present:
        if binding not in (*topology.bindings, *topology.optional) and _harms(topology, binding):
            yield f"binding {binding}: should not be there"


def _binding(table: Table) -> Binding:
    return Binding(
        table["source"], table["destination"], table["destination_type"], table["routing_key"], table["arguments"]
    )


def _harms(topology: Topology, binding: Binding) -> bool:
    """Return whether a binding brings foreign or duplicate bodies, or takes bodies from the ring or the gate."""
    closed = {
        exchange.name
        for exchange in topology.exchanges
        if exchange.type == CONSISTENT_HASH or "alternate-exchange" in exchange.arguments
    }
    logs = [("queue", log.name) for log in topology.logs]
    ours = (binding.destination_type, binding.destination) in [*_names(topology), *logs]
    # Every queue is bound to the nameless exchange by its own name, which can't be undone.
    return (ours and binding.source != "") or binding.source in closed


def _names(topology: Topology) -> list[tuple[str, str]]:
    """Return the kind and name of each of the topology's objects."""
    return [
        *(("exchange", exchange.name) for exchange in topology.exchanges),
        *(("queue", queue.name) for queue in topology.queues),
    ]


def _of_policies(kind: str, name: str, found: Definitions) -> Iterator[str]:
    for policy in found.policies:
        weakened = sorted(_WEAKENING.intersection(dict(policy["definition"])))
        if weakened and policy["apply-to"] in _APPLIES_TO[kind] and _matches(policy["pattern"], name):
            yield f"{kind} {name!r}: policy {policy['name']!r} sets {', '.join(weakened)}"


def _of_log_policies(log: Queue, found: Definitions) -> Iterator[str]:
    """Find the policies that drop records of a log earlier: for a stream a policy replaces the argument."""
    for policy in found.policies:
        if policy["apply-to"] in _APPLIES_TO["stream"] and _matches(policy["pattern"], log.name):
            for key, value in sorted(dict(policy["definition"]).items()):
                argument = log.arguments.get(f"x-{key}")
                if key in _RETENTION and not (key == "max-length-bytes" and _is_at_least(value, argument)):
                    wanted = "should not be set" if argument is None else f"should be {argument!r}"
                    yield f"log {log.name!r}: policy {policy['name']!r} sets {key} to {value!r}, {wanted}"


def _is_at_least(value: object, argument: object) -> bool:
    return isinstance(value, int) and isinstance(argument, int) and value >= argument


def _matches(pattern: str, name: str) -> bool:
    """Return whether RabbitMQ would apply the pattern; a pattern that Python can't compile counts as a match."""
    try:
        return re.search(pattern, name) is not None
    except re.error:
        return True


def _of_user(user: User, found: Definitions) -> Iterator[str]:
    table = (found.users or {}).get(user.name)
    if table is None or found.permissions is None:
        return
    what = f"user {user.name!r}"
    if absent := set(user.tags) - tags_of(table):
        yield f"{what}: has no tag {', '.join(sorted(absent))}"
    permissions = found.permissions.get(user.name)
    if permissions is None:
        yield f"{what}: has no permissions in virtual host {found.virtual_host!r}"
        return
    for right, pattern in (("configure", user.configure), ("write", user.write), ("read", user.read)):
        if permissions[right] != pattern:
            yield f"{what}: may {right} {permissions[right]!r}, should be {pattern!r}"
