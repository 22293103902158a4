"""The parameters of every connection to RabbitMQ, and the errors for its failures.

pika's exceptions end here: `translate` turns each into one line for a person, without a password. The error is
`BrokerUnreachableError` if a retry may help, and `BrokerRefusedError` if not. No state, no thread of its own.
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
from pika import spec
from pika.adapters.utils.connection_workflow import AMQPConnectorException, AMQPConnectorStackTimeout
from pika.connection import Parameters
from pika.credentials import ExternalCredentials, PlainCredentials
from pika.exceptions import (
    AMQPConnectionError,
    AMQPError,
    AuthenticationError,
    ChannelClosed,
    ConnectionClosed,
)

from busmon.bus.connect import tls
from busmon.bus.connect.not_found import is_unavailable
from busmon.errors import (
    BrokerRefusedError,
    BrokerUnreachableError,
    BrokerUnsettledError,
    BusError,
    LoginRefusedError,
    SettingsError,
)
from busmon.settings import mask, split_urls

MAX_USER_ID_BYTES = 255

# pika resolves names on a thread of its own, where the first look-up would import this codec. A process that is forked
# during an import inherits a half-imported module, whose lock is never released.
codecs.lookup("idna")

PIKA_ERRORS = (AMQPError, AMQPConnectorException, OSError)

# The URL's query overrides each. A heartbeat of 30 s finds a dead peer in about a minute, RabbitMQ's default in two.
# A shorter heartbeat would end the connection of a process that is busy for as long.
_DEFAULTS = {
    "heartbeat": "30",
    "blocked_connection_timeout": "30",
    "socket_timeout": "5",
    "stack_timeout": "5",
    "connection_attempts": "1",
}
# A retry gets the same answer. NOT_ALLOWED: no such virtual host, or not for this user.
_REFUSING_CODES = frozenset({spec.ACCESS_REFUSED, spec.COMMAND_INVALID, spec.NOT_ALLOWED, spec.NOT_IMPLEMENTED})
# pika hides what ended a handshake in the text of a "probable" error.
_HIDDEN_CLOSE = re.compile(r"ConnectionClosedByBroker: \((\d+)\) ['\"](.*)['\"]", re.DOTALL)
# A limit of connections is refused by the same code, with a reason behind the user's name.
_WRONG_VIRTUAL_HOST = re.compile(r"vhost .+ not found|refused for user '[^']*'$")
_HIDDEN_TIMEOUT = "Timeout while setting up AMQP"
_TCP_TIMEOUT = "TCP connection attempt timed out"
_TLS_TIMEOUT = "Timeout while setting up transport"
_HIDDEN_LOSS = re.compile(r"StreamLostError: \(['\"](.*)['\"],\)", re.DOTALL)


# OpenSSL's names for a first answer that isn't a TLS record; Python 3.13 has the second.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNEXPECTED_EOF_WHILE_READING", "HTTP_REQUEST"})


def parameters(amqp_url: str, name: str) -> Parameters:
    """Return pika's connection parameters for one URL.

    Args:
        amqp_url: `amqp://` or `amqps://`, with user, password, virtual host and pika's query options (`heartbeat`,
            …), and RabbitMQ's options of TLS: `cacertfile`, `certfile`, `keyfile`, `server_name_indication`,
            `auth_mechanism` (see `tls.py`).
        name: the connection's name in RabbitMQ's management pages and log.

    Raises:
        SettingsError: the URL has an option that doesn't exist or a value that isn't accepted.
    """
    parts = urlsplit(amqp_url)
    said = dict(parse_qsl(parts.query))
    asked, external = tls.take_options("amqp_url", said), _external(said)
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


def all_parameters(amqp_url: str, name: str) -> list[Parameters]:
    """Return pika's connection parameters for each URL; arguments and errors as for `parameters`."""
    return [parameters(url, name) for url in split_urls(amqp_url)]


@contextmanager
def translating(hints: Mapping[int, str] = MappingProxyType({})) -> Iterator[None]:
    """Turn pika's exceptions inside the block into a `BusError`; `hints` as for `translate_with_hint`."""
    try:
        yield
    except PIKA_ERRORS as error:
        raise translate_with_hint(error, hints) from error


def translate_with_hint(error: BaseException, hints: Mapping[int, str]) -> BusError:
    """Translate an error, and add the hint for the code with which the broker closed the channel."""
    inner, found = root(error), translate(error)
    if not isinstance(inner, ChannelClosed) or is_unavailable(inner.reply_code, inner.reply_text):
        return found
    hint = hints.get(inner.reply_code)
    return type(found)(f"{found}; {hint}") if hint else found


def translate(error: BaseException) -> BusError:
    """Return the `BusError` for an exception of pika or of the socket."""
    inner = root(error)
    if waited_for := _name_overdue_handshake(inner):
        return BrokerUnreachableError(f"no answer to the {waited_for} handshake in time")
    if isinstance(inner, ssl.SSLError) and inner.reason in _NO_TLS:
        said = f"the server does not speak TLS: use amqp://, or the port for TLS ({words(inner)})"
        return BrokerUnreachableError(said)
    if isinstance(inner, AuthenticationError):
        return LoginRefusedError(f"it doesn't take the authentication mechanism {one_line(str(inner.args[0]))}")
    if isinstance(inner, ConnectionClosed):
        return _translate_close(inner.reply_code, inner.reply_text)
    if hidden := _HIDDEN_CLOSE.search(str(inner)):
        return _translate_close(int(hidden[1]), hidden[2])
    return _kind(inner)(words(inner))


def root(error: BaseException) -> BaseException:
    """Return the innermost of the exceptions that pika wraps around one another while connecting."""
    wrapped = getattr(error, "exceptions", None) or (getattr(error, "exception", None), *error.args)
    inner = next((part for part in reversed(wrapped) if isinstance(part, BaseException)), None)
    return error if inner is None else root(inner)


def certificates(amqp_url: str) -> dict[str, Path]:
    """Return the files of certificates that the URL names, by use: `amqp_ca`, `amqp_client`."""
    found = {}
    for url in split_urls(amqp_url):
        if asked := tls.take_options("amqp_url", dict(parse_qsl(urlsplit(url).query))):
            found.update(asked.certificates())
    return found


def user(amqp_url: str) -> str:
    """Return the user that the URL names, in words.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    credentials = _first_parameters(amqp_url).credentials
    return f"user {credentials.username!r}" if isinstance(credentials, PlainCredentials) else "the certificate's user"


def user_id(amqp_url: str) -> str | None:
    """Return the `user_id` of this URL's publishes; None if the user isn't known.

    For a certificate, the user is known only if the URL names the user.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    credentials = _first_parameters(amqp_url).credentials
    plain = isinstance(credentials, PlainCredentials)
    name = credentials.username if plain else unquote(urlsplit(split_urls(amqp_url)[0]).username or "")
    return name if name and len(name.encode()) <= MAX_USER_ID_BYTES else None


def virtual_host(amqp_url: str) -> str:
    """Return the virtual host that the URL names.

    Raises:
        SettingsError: the URL isn't accepted.
    """
    return str(_first_parameters(amqp_url).virtual_host)


def address(amqp_url: str) -> str:
    """Return the URLs' addresses, as `HOST:PORT, HOST:PORT`.

    Raises:
        SettingsError: a URL isn't accepted.
    """
    return ", ".join(f"{found.host}:{found.port}" for found in all_parameters(amqp_url, ""))


def _first_parameters(amqp_url: str) -> Parameters:
    """Return the first URL's parameters; the settings check that all URLs agree in user and virtual host."""
    return parameters(split_urls(amqp_url)[0], "")


def one_line(text: str) -> str:
    """Return the text without line breaks and without RabbitMQ's pointer to its log."""
    return " ".join(text.split()).removesuffix(" For details see the broker logfile.")


def words(error: BaseException) -> str:
    """Return the exception's text, on one line and without an error number."""
    if isinstance(error, ChannelClosed):
        return one_line(error.reply_text)
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror)
    text = one_line(", ".join(map(str, error.args)))
    hidden = _HIDDEN_LOSS.fullmatch(text)
    return (hidden[1] if hidden else text) or type(error).__name__


def _external(said: dict[str, str]) -> bool:
    """Return whether the query asks for authentication by certificate; take the mechanism out of the query."""
    mechanism = said.pop("auth_mechanism", "plain").lower()
    if mechanism not in {"plain", "external"}:
        raise SettingsError("amqp_url: auth_mechanism: expected plain or external")
    return mechanism == "external"


def _name_overdue_handshake(error: BaseException) -> str:
    """Name the handshake that took too long; empty if none did."""
    said = str(error)
    if isinstance(error, TimeoutError) and said.startswith(_TCP_TIMEOUT):
        return "TCP"
    if isinstance(error, AMQPConnectorStackTimeout) and said.startswith(_TLS_TIMEOUT):
        return "TLS"
    return "AMQP" if isinstance(error, AMQPConnectorStackTimeout) or _HIDDEN_TIMEOUT in said else ""


def _kind(error: BaseException) -> type[BusError]:
    """Return the kind of an error that no close of a connection explains."""
    if isinstance(error, ChannelClosed) and is_unavailable(error.reply_code, error.reply_text):
        return BrokerUnsettledError
    is_refusal = isinstance(error, AMQPError) and not isinstance(error, AMQPConnectionError)
    return BrokerRefusedError if is_refusal else BrokerUnreachableError


def _translate_close(code: int, text: str) -> BusError:
    kind: type[BusError] = BrokerRefusedError if code in _REFUSING_CODES else BrokerUnreachableError
    if code == spec.INTERNAL_ERROR:
        kind = BrokerUnsettledError
    if code == spec.ACCESS_REFUSED or (code == spec.NOT_ALLOWED and _WRONG_VIRTUAL_HOST.search(text)):
        kind = LoginRefusedError
    return kind(one_line(text) or f"closed with code {code}")
