"""The topology's users and their permissions, set over the management API.

An existing user keeps its password. A missing user is created only with a given password, since there is no default.
Permissions are set to the topology's in one virtual host; tags are added and never removed.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from busmon.bus.topology.management import Management
from busmon.bus.topology.topology import User


def grant(
    users: Iterable[User], management_url: str, virtual_host: str, passwords: Mapping[str, str | None]
) -> Iterator[str]:
    """Create the missing users and set all users' permissions.

    Yields:
        The outcome for each user, a line each.

    Raises:
        BrokerRefusedError: the URL's user isn't an administrator.
        BrokerUnreachableError: there is no management API.
    """
    management = Management(management_url)
    for user in users:
        if not _present(management, user, passwords.get(user.role)):
            yield f"user {user.name!r}: is missing and has no password; set {password_variable(user)} to create it"
            continue
        management.put(
            *("permissions", virtual_host, user.name),
            content={"configure": user.configure, "write": user.write, "read": user.read},
        )
        yield f"user {user.name!r}: permissions set in virtual host {virtual_host!r}"


def password_variable(user: User) -> str:
    """Return the environment variable of the user's password."""
    return f"BUSMON_{user.role.upper()}_PASSWORD"


def _present(management: Management, user: User, password: str | None) -> bool:
    found = management.get("users", user.name)
    if found is None:
        if password:
            management.put("users", user.name, content={"password": password, "tags": ",".join(user.tags)})
        return bool(password)
    tags = tags_of(found)
    if not tags.issuperset(user.tags):
        # Only a whole user can be put; the API's own hash keeps the password unchanged.
        kept = {key: found[key] for key in ("password_hash", "hashing_algorithm")}
        management.put("users", user.name, content={**kept, "tags": ",".join(sorted(tags.union(user.tags)))})
    return True


def tags_of(found: Mapping[str, Any]) -> set[str]:
    """Return a user's tags, which RabbitMQ reports as a list, and before 3.9 as one text."""
    tags = found.get("tags") or []
    return set(tags.split(",") if isinstance(tags, str) else tags)
