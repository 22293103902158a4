"""Attempts to connect: every address of each of the broker's URLs, one after another, until one opens a connection.

Each address has 5 s in all for TCP, TLS and the AMQP handshake. The order is random, so that many processes spread over
a cluster; an address that failed, or whose connection was lost, comes last from then on. On the thread of the loop.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from random import SystemRandom
from socket import gaierror
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop
from pika.connection import Parameters
from pika.credentials import PlainCredentials

from busmon.bus.connect.connection import PIKA_ERRORS, all_parameters, root, translate
from busmon.bus.frames.reading import ReadingConnection
from busmon.bus.frames.workflow import BrokerAddress, Dialling, Failure, Result
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BusError, LoginRefusedError

_random = SystemRandom().random  # a forked process must not repeat the order of its parent


class Addresses:
    """The broker's addresses and the order in which the next attempt tries them.

    Args:
        amqp_url: the broker's URLs.
        name: a connection's name on the broker.

    Attributes:
        of_urls: pika's connection parameters for each URL.
        failures: the last attempt's.

    Raises:
        SettingsError: a URL isn't accepted.
    """

    def __init__(self, amqp_url: str, name: str) -> None:
        self.of_urls = all_parameters(amqp_url, name)
        self.failures: list[Failure] = []
        self._ranks: defaultdict[tuple[Any, ...], float] = defaultdict(_random)
        self._turn = count(1)
        self._current: BrokerAddress | None = None

    def dial(self, ioloop: IOLoop, done: Callable[[Result], None]) -> Dialling:
        """Start an attempt; `done` is called with the open connection, or with an exception once no address is left."""
        dialling = Dialling(self)
        ReadingConnection.create_connection(self.of_urls, done, ioloop, dialling)
        return dialling

    def create_connection(
        self, _configs: Sequence[Parameters], on_done: Callable[[Result], None], custom_ioloop: IOLoop
    ) -> None:
        """Dial for pika's `BlockingConnection`, which uses this object as its class of connections."""
        self.dial(custom_ioloop, on_done)

    def in_order(self, found: Sequence[BrokerAddress]) -> list[BrokerAddress]:
        """Return the addresses in the order of the attempt that begins."""
        self.failures.clear()
        return sorted(found, key=lambda address: self._ranks[address.key])

    def note_opened(self, address: BrokerAddress) -> None:
        """Note the address that the connection is open to."""
        self._current = address

    def note_failed(self, failure: Failure, address: BrokerAddress | None = None) -> None:
        """Note that an address gave no connection; the address comes last from now on."""
        self.failures.append(failure)
        if address is not None:
            self._put_last(address)

    def note_lost(self) -> None:
        """Note that the open connection is lost; its address comes last from now on."""
        if self._current is not None:
            self._put_last(self._current)
            self._current = None

    def explain_failure(self) -> BusError:
        """Return the error of the attempt, with the reason for each address."""
        groups = self._reasons()
        line = "; ".join(f"at {', '.join(places)}: {reason}" for reason, places in groups.items())
        return self._kind()(f"RabbitMQ {line}" if groups else "the attempt to connect was dropped")

    def reasons(self) -> BusError:
        """Return the error of the attempt, without addresses if all failed for the same reason."""
        groups = self._reasons()
        if len(groups) == 1:
            return self._kind()(next(iter(groups)))
        return self.explain_failure()

    def _put_last(self, address: BrokerAddress) -> None:
        self._ranks[address.key] = float(next(self._turn))

    def _kind(self) -> type[BusError]:
        # One node that refuses the user is enough: all nodes of a cluster share the users.
        kinds = {type(translate(failure.error)) for failure in self.failures}
        refused = (kind for kind in (LoginRefusedError, BrokerRefusedError) if kind in kinds)
        return next(refused, BrokerUnreachableError)

    def _reasons(self) -> dict[str, list[str]]:
        """Group the places that failed by the reason, in the order of the attempt."""
        ips: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        addresses: defaultdict[str, set[str]] = defaultdict(set)
        for parameters, ip, error in self.failures:
            place = f"{parameters.host}:{parameters.port}"
            ips[_reason(parameters, error), place].append(ip)
            addresses[place].add(ip)
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for (reason, place), found in ips.items():
            groups[reason].append(f"{place} ({', '.join(found)})" if len(addresses[place]) > 1 else place)
        return groups


def open_blocking(amqp_url: str, name: str) -> pika.BlockingConnection:
    """Connect, and wait until the connection is open.

    Raises:
        BrokerUnreachableError: nobody answers there, or not in time.
        LoginRefusedError: the user, the password or the virtual host is wrong.
        BrokerRefusedError: the broker refuses the connection for another reason.
        SettingsError: the URL isn't accepted.
    """
    addresses = Addresses(amqp_url, name)
    try:
        # An operator reads bodies of any publisher, so headers that pika can't decode may arrive here too.
        return pika.BlockingConnection(addresses.of_urls, _impl_class=addresses)  # type: ignore[arg-type]  # `create_connection` is all that pika calls
    except PIKA_ERRORS as error:
        raise addresses.explain_failure() from error


def _reason(parameters: Parameters, error: BaseException) -> str:
    said = str(translate(error))
    remedy = _way_to_broker(error, said) or _remedy(parameters, said)
    return f"{said.removesuffix('.')}; {remedy}" if remedy else said


def _way_to_broker(error: BaseException, said: str) -> str:
    """Word what to check where no broker answers at an address; empty if that isn't known."""
    if said.startswith("no answer to the AMQP handshake"):
        return "AMQP's port is 5672 by default, 15672 is the management API's"
    nobody = isinstance(root(error), ConnectionRefusedError | gaierror)
    return "check host and port in amqp_url (BUSMON_AMQP_URL)" if nobody else ""


def _remedy(wanted: Parameters, said: str) -> str:
    """Word the remedy for the broker's refusal of a connection, by RabbitMQ's name of it; empty if there is none."""
    credentials = wanted.credentials
    if said.startswith("ACCESS_REFUSED"):
        if not isinstance(credentials, PlainCredentials):
            return "check the certificate, and that its subject names a user of the broker"
        guest = "; RabbitMQ lets guest in from its own host only" if credentials.username == "guest" else ""
        return f"check user {credentials.username!r} and the password{guest}"
    if not said.startswith("NOT_ALLOWED"):
        return ""
    if not wanted.virtual_host:
        return "the URL names an empty virtual host; end the URL with /%2F for the default one"
    if "not found" in said:
        return f"check virtual host {wanted.virtual_host!r}, the last part of the URL, and write / in it as %2F"
    return f"give the user rights in virtual host {wanted.virtual_host!r}: rabbitmqctl set_permissions"
