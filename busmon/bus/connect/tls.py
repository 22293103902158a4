"""The TLS options of a URL's query, under the names that RabbitMQ's own clients use.

`amqps://rabbit.example?cacertfile=/etc/ca.pem&certfile=…&keyfile=…` (https://www.rabbitmq.com/docs/uri-query-parameters),
and the same for the `https://` of the management API. The server's certificate and name are always verified. No state
of its own; on the thread of the caller.
"""

import ssl
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pika

from busmon.errors import SettingsError

_Loaded = TypeVar("_Loaded")

_FILES = ("cacertfile", "certfile", "keyfile")
_NAMES = (*_FILES, "password", "server_name_indication", "verify")
_EXPECTED = {"cacertfile": "PEM certificates", "certfile": "PEM, with the key that fits it"}


@dataclass(frozen=True, slots=True)
class Tls:
    """The TLS options of a URL.

    Attributes:
        setting: the URL's, for errors.
        cacertfile: the CAs that may sign the server's certificate; None for the system's CAs.
        certfile: the client's certificate, with its chain.
        keyfile: its key; None where the certificate's file holds it.
        password: the key's.
        server_name: the name that the server's certificate must have; None for the URL's host.
    """

    setting: str
    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = field(default=None, repr=False)
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """Make a client's context from the files' present content.

        Raises:
            SettingsError: a file can't be read or has other content; the line names the file.
        """
        self._require_files()
        made = self._naming("cacertfile", self.cacertfile, lambda: ssl.create_default_context(cafile=self.cacertfile))
        if certfile := self.certfile:
            # An encrypted key would otherwise ask for its password on the terminal.
            password = (self.password or "").encode()
            self._naming(
                "certfile", certfile, lambda: made.load_cert_chain(certfile, self.keyfile, password=lambda: password)
            )
        return made

    def certificates(self) -> dict[str, Path]:
        """Return the files of certificates by their use, `amqp_ca` and `amqp_client`."""
        named = {"amqp_ca": self.cacertfile, "amqp_client": self.certfile}
        return {use: Path(path) for use, path in named.items() if path}

    def _require_files(self) -> None:
        if self.keyfile and not self.certfile:
            raise SettingsError(f"{self.setting}: keyfile: expected a certfile too")
        for name in _FILES:
            if path := getattr(self, name):
                self._naming(name, path, Path(path).read_bytes)

    def _naming(self, name: str, path: str | None, load: Callable[[], _Loaded]) -> _Loaded:
        try:
            return load()
        except ssl.SSLError as error:
            raise SettingsError(f"{self.setting}: {name}={path}: expected {_EXPECTED[name]}") from error
        except OSError as error:
            raise SettingsError(f"{self.setting}: {name}={path}: can't read it: {error.strerror}") from error


class Renewed(pika.SSLOptions):
    """pika's TLS options, whose context is read from the files at each attempt to connect.

    So a reconnect uses a renewed certificate. If the files are broken by then, the last good context is used.
    """

    __slots__ = ("_last", "_tls", "server_hostname")

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._last = tls.context()
        self.server_hostname = tls.server_name

    @property
    def context(self) -> ssl.SSLContext:
        """Return the context for the attempt that begins."""
        try:
            self._last = self._tls.context()
        except SettingsError:
            return self._last
        return self._last


def take_options(setting: str, query: MutableMapping[str, str]) -> Tls | None:
    """Take the TLS options out of a URL's query; return None if there are none.

    Raises:
        SettingsError: the query turns verification off, or has options in pika's form.
    """
    if "ssl_options" in query:
        # pika's own option is a Python expression that may leave the server unverified.
        raise SettingsError(f"{setting}: ssl_options: expected cacertfile, certfile and keyfile in its place")
    said = {name: query.pop(name) for name in _NAMES if name in query}
    if said.get("verify", "verify_peer") != "verify_peer":
        raise SettingsError(f"{setting}: verify: expected verify_peer, for the server is always verified")
    files = {name: said.get(name) for name in (*_FILES, "password")}
    return Tls(setting, **files, server_name=said.get("server_name_indication")) if said else None
