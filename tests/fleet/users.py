"""A fleet with the users of the shipped topology and their rights, and publishers that log in as one of these."""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import orjson
import pika

from busmon.bus.topology import topology as topologies
from busmon.bus.topology.declare import declare
from busmon.bus.topology.users import grant
from busmon.demo.broker import PrivateNode
from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet

PASSWORD = "secret"  # noqa: S105 - of users that live as long as a test
CONFIRM_SECONDS = 60


class Users:
    """The users of one virtual host, and an exchange whose name the users' names begin with."""

    def __init__(self, vhost: Vhost, directory: Path, topology: Path | None = None) -> None:
        self._vhost = vhost
        self.exchange = f"telemetry-{secrets.token_hex(6)}"
        self.topology = topologies.load(topology, self.exchange)
        declare(self.topology, vhost.amqp_url, None, {})
        self.names = [user.name for user in self.topology.users]
        for _ in grant(self.topology.users, vhost.management_url, vhost.name, self._passwords()):
            pass
        self._directory = directory

    def _passwords(self) -> dict[str, str | None]:
        return dict.fromkeys(topologies.ROLES, PASSWORD)

    def add_publisher(self, name: str) -> str:
        """Another user with a publisher's rights; the user's name."""
        publisher = next(user for user in self.topology.users if user.role == "publisher")
        other = replace(publisher, name=f"{self.exchange}-{name}")
        for _ in grant([other], self._vhost.management_url, self._vhost.name, self._passwords()):
            pass
        self.names.append(other.name)
        return other.name

    def url(self, user: str) -> str:
        """How a user reaches the broker."""
        return self._vhost.amqp_url.replace("guest:guest", f"{user}:{PASSWORD}")

    def fleet(self, **environment: Any) -> RealFleet:
        """A fleet that has the consumer's rights and no more."""
        url = self.url(f"{self.exchange}-consumer")
        return RealFleet(self._directory, url, BUSMON_EXCHANGE=self.exchange, **environment)

    def environment(self, user: str) -> dict[str, str]:
        """The environment of a command that is run as a user."""
        return {**os.environ, "BUSMON_AMQP_URL": self.url(user), "BUSMON_EXCHANGE": self.exchange}


@contextmanager
def users(node: PrivateNode, vhost: Vhost, directory: Path, topology: Path | None = None) -> Iterator[Users]:
    """The users, which are deleted in the end: they are the whole broker's."""
    made = Users(vhost, directory, topology)
    yield made
    for name in made.names:
        node.management("DELETE", f"/api/users/{name}")


class Publisher:
    """A connection of one user that waits for each confirm."""

    def __init__(self, made: Users, user: str) -> None:
        self._exchange = made.exchange
        self._user = user
        self._connection = pika.BlockingConnection(pika.URLParameters(made.url(user)))
        self._channel = self._connection.channel()
        self._channel.confirm_delivery()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def publish(self, body: bytes, *, signed: bool = True, **properties: Any) -> None:
        """Publish a body, signed with the user's name."""
        user_id = {"user_id": self._user} if signed else {}
        stated = pika.BasicProperties(delivery_mode=2, **{**user_id, **properties})
        self._channel.basic_publish(self._exchange, "any.task", body, stated, mandatory=True)

    def envelope(  # noqa: PLR0913 - an envelope's members
        self,
        source: str,
        sequence: int,
        samples: list[dict[str, Any]],
        *,
        agent: str = "analyzer",
        signed: bool = True,
        headers: dict[str, Any] | None = None,
        expiration: str | None = None,
        **members: Any,
    ) -> None:
        """Publish an envelope as the SDK does."""
        body = orjson.dumps(
            {"v": 1, "source": source, "agent": agent, "ts": time.time(), "samples": samples, **members}
        )
        self.publish(
            body,
            signed=signed,
            message_id=f"{source}:{sequence}",
            app_id=agent,
            headers={"source": source, **(headers or {})},
            expiration=expiration,
        )
