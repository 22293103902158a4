"""How every connection to RabbitMQ is opened, and what its failures are called.

pika's exceptions end here: `translated` turns each into one line for a person, `BrokerUnreachableError` where trying
again may help and `BrokerRefusedError` where it won't, never with a password in it. No state, no thread of its own.
"""

import codecs
import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException, AMQPConnectorStackTimeout
from pika.connection import Parameters
from pika.credentials import ExternalCredentials, PlainCredentials
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ConnectionBlockedTimeout,
    ConnectionClosed,
)
from tenacity import RetryCallState, Retrying, wait_random_exponential

from busmon.bus import tls
from busmon.bus.reading import ReadingConnection
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BusError, SettingsError
from busmon.settings import mask

MAX_USER_ID_BYTES = 255
ACCESS_REFUSED = 403
NOT_FOUND = 404

# pika resolves names on a thread of its own, where the first look-up would import this codec. A process that is forked
# in the middle of an import has a half-made module, whose lock is never free again.
codecs.lookup("idna")

PIKA_ERRORS = (AMQPError, AMQPConnectorException, OSError)

# The URL's query overrides each. A heartbeat of 30 s finds a dead peer within a minute, RabbitMQ's own default in two.
_DEFAULTS = {
    "heartbeat": "30",
    "blocked_connection_timeout": "30",
    "socket_timeout": "5",
    "stack_timeout": "10",
    "connection_attempts": "1",
}
# ACCESS_REFUSED, COMMAND_INVALID, NOT_ALLOWED (no such vhost, or not for this user), NOT_IMPLEMENTED: all come again.
_REFUSING_CODES = frozenset({403, 503, 530, 540})
# pika hides what ended a handshake in the text of a "probable" error.
_HIDDEN_CLOSE = re.compile(r"ConnectionClosedByBroker: \((\d+)\) ['\"](.*)['\"]", re.DOTALL)
_HIDDEN_TIMEOUT = "Timeout while setting up AMQP"
_HIDDEN_LOSS = re.compile(r"StreamLostError: \(['\"](.*)['\"],\)", re.DOTALL)


# What OpenSSL calls a first answer that is no TLS record; the second is of Python 3.13's.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"})


def parameters(amqp_url: str, name: str) -> Parameters:
    """What pika needs to connect.

    Args:
        amqp_url: `amqp://` or `amqps://`, with user, password, virtual host and pika's query options (`heartbeat`,
            …), and RabbitMQ's own of TLS: `cacertfile`, `certfile`, `keyfile`, `server_name_indication`,
            `auth_mechanism` (see `tls.py`).
        name: what the connection is called in RabbitMQ's management pages and log.

    Raises:
        SettingsError: the URL has an option that doesn't exist or a value that isn't accepted.
    """
    parts = urlsplit(amqp_url)
    said = dict(parse_qsl(parts.query))
    asked, external = tls.taken("amqp_url", said), _external(said)
    if parts.scheme != "amqps" and (asked or external):
        raise SettingsError(f"amqp_url: {mask(amqp_url)}: expected amqps://…, where certificates are named")
    query = urlencode({**_DEFAULTS, **said})
    if parts.username and parts.password is None:
        parts = parts._replace(netloc=f"{parts.username}:@{parts.netloc.rpartition('@')[2]}")
    try:
        found = pika.URLParameters(parts._replace(query=query).geturl())
        if asked:
            found.ssl_options = tls.Renewed(asked)
    except (ValueError, TypeError, AttributeError, SyntaxError, OSError) as error:
        raise SettingsError(f"amqp_url: {mask(amqp_url)}: {one_line(str(error))}") from error
    if external:
        found.credentials = ExternalCredentials()
    found.client_properties = {**(found.client_properties or {}), "connection_name": name}
    return found


def open_blocking(amqp_url: str, name: str) -> pika.BlockingConnection:
    """Connect, and wait until the connection is open.

    Raises:
        BrokerUnreachableError: nobody answers there, or not in time.
        BrokerRefusedError: the user, the password or the virtual host is wrong.
        SettingsError: the URL isn't accepted.
    """
    wanted = parameters(amqp_url, name)
    try:
        # An operator looks at what others published, so headers that pika can't decode may come this way, too.
        return pika.BlockingConnection(wanted, _impl_class=ReadingConnection)
    except PIKA_ERRORS as error:
        raise unopened(wanted, error) from error


def unopened(wanted: Parameters, error: BaseException) -> BusError:
    """The `BusError` that says why there is no connection, and where it was to lead."""
    found = translated(error)
    said = str(found)
    remedy = _remedy(wanted, said)
    said = f"{said.removesuffix('.')}; {remedy}" if remedy else said
    return type(found)(f"RabbitMQ at {wanted.host}:{wanted.port}: {said}")


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


@contextmanager
def deadline(connection: pika.BlockingConnection, seconds: float) -> Iterator[None]:
    """After so long, whatever waits on the connection inside raises an error, and the connection is closed.

    pika has no time limit for a reply or a confirm, and heartbeats go on while a broker with an alarm gives neither.

    Raises:
        pika.exceptions.ConnectionBlockedTimeout: the time is over; `translating` makes it a `BrokerUnreachableError`.
    """
    stream = connection._impl  # noqa: SLF001 - the public timers fire only after the wait that they are to end
    expired = ConnectionBlockedTimeout(f"no answer within {seconds:g} s: RabbitMQ is stalled or has a resource alarm")
    timer = stream._adapter_call_later(seconds, lambda: stream._terminate_stream(expired))  # noqa: SLF001 - as above
    try:
        yield
    finally:
        if connection.is_open:
            stream._adapter_remove_timeout(timer)  # noqa: SLF001 - as above


@contextmanager
def translating(hints: Mapping[int, str] = MappingProxyType({})) -> Iterator[None]:
    """Whatever pika raises inside leaves as a `BusError`; `hints` as for `advised`."""
    try:
        yield
    except PIKA_ERRORS as error:
        raise advised(error, hints) from error


def advised(error: BaseException, hints: Mapping[int, str]) -> BusError:
    """As `translated`, and with what helps, where the broker closed the channel with one of these codes."""
    root, found = _root(error), translated(error)
    hint = hints.get(root.reply_code) if isinstance(root, ChannelClosed) else None
    return type(found)(f"{found}; {hint}") if hint else found


def translated(error: BaseException) -> BusError:
    """The `BusError` that says what this exception of pika, or of the socket, means."""
    root = _root(error)
    if isinstance(root, AMQPConnectorStackTimeout) or _HIDDEN_TIMEOUT in str(root):
        return BrokerUnreachableError("no answer to the AMQP handshake in time")
    if isinstance(root, ssl.SSLError) and root.reason in _NO_TLS:
        said = f"what answers does not speak TLS: use amqp://, or the port for TLS ({words(root)})"
        return BrokerUnreachableError(said)
    if isinstance(root, AuthenticationError):
        return BrokerRefusedError(f"it doesn't take the authentication mechanism {one_line(str(root.args[0]))}")
    if isinstance(root, ConnectionClosed):
        return _closed(root.reply_code, root.reply_text)
    if hidden := _HIDDEN_CLOSE.search(str(root)):
        return _closed(int(hidden[1]), hidden[2])
    refused = isinstance(root, AMQPError) and not isinstance(root, AMQPConnectionError)
    return (BrokerRefusedError if refused else BrokerUnreachableError)(words(root))


def reconnect_waits() -> Iterator[float]:
    """How long to wait before each further attempt to connect, in seconds: growing, jittered, from 0.1 to 10.

    The jitter is full, so that a fleet whose broker restarts doesn't come back all at once.
    """
    policy = wait_random_exponential(multiplier=0.2, min=0.1, max=10)
    state = RetryCallState(Retrying(), None, (), {})
    while True:
        yield policy(state)
        state.attempt_number += 1


def certificates(amqp_url: str) -> dict[str, Path]:
    """The files of certificates that the URL names, by use: `amqp_ca`, `amqp_client`."""
    asked = tls.taken("amqp_url", dict(parse_qsl(urlsplit(amqp_url).query)))
    return asked.certificates() if asked else {}


def user(amqp_url: str) -> str:
    """Who the URL says that one is, in words.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    credentials = parameters(amqp_url, "").credentials
    return f"user {credentials.username!r}" if isinstance(credentials, PlainCredentials) else "the certificate's user"


def user_id(amqp_url: str) -> str | None:
    """Return the `user_id` of what this URL's user publishes; None if it can't be known.

    A certificate's user is the one that the URL names, if it names one.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    credentials = parameters(amqp_url, "").credentials
    plain = isinstance(credentials, PlainCredentials)
    name = credentials.username if plain else unquote(urlsplit(amqp_url).username or "")
    return name if name and len(name.encode()) <= MAX_USER_ID_BYTES else None


def virtual_host(amqp_url: str) -> str:
    """The virtual host that the URL names.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    return str(parameters(amqp_url, "").virtual_host)


def address(amqp_url: str) -> str:
    """Return where the URL leads, as `HOST:PORT`.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    found = parameters(amqp_url, "")
    return f"{found.host}:{found.port}"


def one_line(text: str) -> str:
    """The text without line breaks, nor RabbitMQ's pointer to a log that the reader may not have."""
    return " ".join(text.split()).removesuffix(" For details see the broker logfile.")


def words(error: BaseException) -> str:
    """What the exception says, on one line and without an error's number."""
    if isinstance(error, ChannelClosed):
        return one_line(error.reply_text)
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    text = one_line(", ".join(map(str, error.args)))
    hidden = _HIDDEN_LOSS.fullmatch(text)
    return (hidden[1] if hidden else text) or type(error).__name__


def _external(said: dict[str, str]) -> bool:
    """Whether the query asks for authentication by the client's certificate; the mechanism is taken out of it."""
    mechanism = said.pop("auth_mechanism", "plain").lower()
    if mechanism not in {"plain", "external"}:
        raise SettingsError("amqp_url: auth_mechanism: expected plain or external")
    return mechanism == "external"


def _root(error: BaseException) -> BaseException:
    """The innermost of the exceptions that pika wraps around one another while connecting."""
    wrapped = getattr(error, "exceptions", None) or (getattr(error, "exception", None), *error.args)
    inner = next((part for part in reversed(wrapped) if isinstance(part, BaseException)), None)
    return error if inner is None else _root(inner)


def _closed(code: int, text: str) -> BusError:
    kind = BrokerRefusedError if code in _REFUSING_CODES else BrokerUnreachableError
    return kind(one_line(text) or f"closed with code {code}")
