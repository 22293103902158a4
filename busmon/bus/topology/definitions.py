"""RabbitMQ's definitions: a broker's objects in one virtual host, and the topology in the same form.

The definitions come from the management API, for the objects that its user may see, or from a file of
`rabbitmqctl export_definitions`. Objects that couldn't be seen are reported, and don't count as missing. Nothing here
changes a broker.
"""

import base64
import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from busmon.bus.topology.management import Management
from busmon.bus.topology.topology import Topology, User
from busmon.bus.topology.version import UNKNOWN, Version, parse
from busmon.errors import BrokerRefusedError, TopologyError

Table = Mapping[str, Any]

_HASHING = "rabbit_password_hashing_sha256"
_BASICS = "?columns=name,type,durable,auto_delete,arguments"


@dataclass(frozen=True, slots=True)
class Definitions:
    """One virtual host of a broker.

    Attributes:
        version: the broker's; `UNKNOWN` if it isn't known.
        policies: ordinary and operator policies.
        users: by name; None if they couldn't be seen.
        permissions: by user's name; None if they couldn't be seen.
        unseen: the objects that couldn't be seen and the reason, a line each.
    """

    virtual_host: str
    exchanges: Mapping[str, Table]
    queues: Mapping[str, Table]
    bindings: tuple[Table, ...]
    policies: tuple[Table, ...]
    users: Mapping[str, Table] | None
    permissions: Mapping[str, Table] | None
    unseen: tuple[str, ...] = ()
    version: Version = UNKNOWN


def of_broker(management_url: str, virtual_host: str, users: Iterable[User]) -> Definitions:
    """Read the definitions from the management API.

    Args:
        management_url: with a user who has at least the tag `management`; permissions are shown to administrators only.
        virtual_host: the virtual host to read.
        users: the users to read.

    Raises:
        BrokerUnreachableError: no server answers.
        BrokerRefusedError: the user may not read this virtual host.
        TopologyError: the virtual host doesn't exist.
    """
    management = Management(management_url)
    exchanges = management.get("exchanges", virtual_host, query=_BASICS)
    if exchanges is None:
        raise TopologyError(f"virtual host {virtual_host!r} doesn't exist on the broker of the management URL")
    queues = management.get("queues", virtual_host, query=_BASICS)
    bindings = management.get("bindings", virtual_host)
    policies = management.get("policies", virtual_host) + management.get("operator-policies", virtual_host)
    version = parse(management.get("overview").get("rabbitmq_version"))
    seen = _by_name(exchanges), _by_name(queues), tuple(bindings), tuple(policies)
    try:
        found = {user.name: management.get("users", user.name) for user in users}
        permissions = {name: management.get("permissions", virtual_host, name) for name in found}
    except BrokerRefusedError as error:
        return Definitions(virtual_host, *seen, None, None, (f"users and permissions: {error}",), version)
    return Definitions(virtual_host, *seen, _present(found), _present(permissions), (), version)


def of_export(text: str, origin: str, virtual_host: str) -> Definitions:
    """Read the definitions of a virtual host from an export.

    Args:
        text: JSON as `rabbitmqctl export_definitions` or the management API writes it, of the whole broker or of this
            virtual host alone.
        origin: the text's name in an error.
        virtual_host: the virtual host to read.

    Raises:
        TopologyError: the text isn't such an export, or has no such virtual host.
    """
    try:
        document = json.loads(text)
        return _of_document(document, origin, virtual_host)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TopologyError(f"{origin}: expected the JSON that `rabbitmqctl export_definitions` writes") from error


def _of_document(document: Table, origin: str, virtual_host: str) -> Definitions:
    if virtual_host not in {table["name"] for table in document.get("vhosts", [{"name": virtual_host}])}:
        raise TopologyError(f"{origin}: has no virtual host {virtual_host!r}")
    whole = "users" in document and "permissions" in document
    return Definitions(
        virtual_host,
        _by_name(_within(virtual_host, document["exchanges"])),
        _by_name(_within(virtual_host, document["queues"])),
        tuple(_within(virtual_host, document["bindings"])),
        (*_within(virtual_host, document.get("policies", [])), *_operator_policies(virtual_host, document)),
        _by_name(document["users"]) if whole else None,
        {table["user"]: table for table in _within(virtual_host, document["permissions"])} if whole else None,
        () if whole else (f"users and permissions: {origin} is of one virtual host, which has none",),
        parse(document.get("rabbitmq_version")),
    )


def _within(virtual_host: str, tables: Iterable[Table]) -> list[Table]:
    """Return the tables of the virtual host; an export of one virtual host leaves its name out."""
    return [table for table in tables if table.get("vhost", virtual_host) == virtual_host]


def _operator_policies(virtual_host: str, document: Table) -> list[Table]:
    parameters = _within(virtual_host, document.get("parameters", []))
    return [
        {**parameter["value"], "name": parameter["name"]}
        for parameter in parameters
        if parameter["component"] == "operator_policy"
    ]


def _by_name(tables: Iterable[Table]) -> dict[str, Table]:
    return {table["name"]: table for table in tables}


def _present(found: Mapping[str, Table | None]) -> dict[str, Table]:
    return {name: table for name, table in found.items() if table is not None}


def export_definitions(topology: Topology, virtual_host: str, passwords: Mapping[str, str | None]) -> dict[str, Any]:
    """Export the topology as definitions for `rabbitmqctl import_definitions`.

    The ring is left out, since the fleet makes it. The logs are left out, since only `busmon topology declare` writes a
    log's first record.

    Args:
        topology: the topology to export.
        virtual_host: the virtual host of the objects.
        passwords: by role; a user without a password can't log in, and an import removes an existing user's password.
    """
    place = {"vhost": virtual_host}
    exchanges = [exchange for exchange in topology.exchanges if exchange.durable]
    lasting = {**place, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": virtual_host}],
        "users": [_export_user(user, passwords.get(user.role)) for user in topology.users],
        "permissions": [
            {**place, "user": user.name, "configure": user.configure, "write": user.write, "read": user.read}
            for user in topology.users
        ],
        "exchanges": [{**lasting, "internal": False, **asdict(exchange)} for exchange in exchanges],
        # A broker accepts and keeps an argument that it doesn't know.
        "queues": [
            {**lasting, "name": queue.name, "arguments": {**queue.arguments, **queue.optional}}
            for queue in topology.queues
        ],
        "bindings": [
            {**place, **asdict(binding)}
            for binding in topology.lasting_bindings
            if binding.source != topology.log_exchange
        ],
    }


def _export_user(user: User, password: str | None) -> Table:
    """Export a user; an empty hash refuses every login, since RabbitMQ accepts no empty password."""
    password_hash = _hash(password) if password else ""
    tags = ",".join(user.tags)
    return {"name": user.name, "password_hash": password_hash, "hashing_algorithm": _HASHING, "tags": tags}


def _hash(password: str) -> str:
    """Hash a password in RabbitMQ's form: base64 of four bytes of salt and the SHA-256 of salt and password."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
