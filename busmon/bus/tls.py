"""TLS to RabbitMQ, as a URL's query asks for it, by the names of RabbitMQ's own clients.

`amqps://rabbit.example?cacertfile=/etc/ca.pem&certfile=…&keyfile=…` (https://www.rabbitmq.com/docs/uri-query-parameters),
and the management API's `https://` alike. The server's certificate and name are always verified. No state of its own;
on the thread of whoever connects.
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
    """What a URL says of TLS.

    Attributes:
        setting: the URL's, for errors.
        cacertfile: who vouches for the server; None for whom the system trusts.
        certfile: the client's certificate, with what leads to its CA.
        keyfile: its key; None where the certificate's file holds it.
        password: of the key.
        server_name: what the server's certificate has to be for; None for the URL's host.
    """

    setting: str
    cacertfile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = field(default=None, repr=False)
    server_name: str | None = None

    def context(self) -> ssl.SSLContext:
        """A client's context, of what the files hold now.

        Raises:
            SettingsError: a file can't be read or isn't what it should be; the line names it.
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
        """The files of certificates by their use, `amqp_ca` and `amqp_client`."""
        named = {"amqp_ca": self.cacertfile, "amqp_client": self.certfile}
        return {use: Path(path) for use, path in named.items() if path}

    def _require_files(self) -> None:
        if self.keyfile and not self.certfile:
            raise SettingsError(f"{self.setting}: keyfile: expected a certfile beside it")
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


class Renewed(pika.SSLOptions):  # type: ignore[misc]  # pika isn't typed
    """pika's options, with a context of what the files hold at each attempt to connect.

    So a certificate that was renewed meanwhile is the one that a lost connection comes back with. Files that are broken
    by then cost nothing: the last good context is used.
    """

    __slots__ = ("_last", "_tls", "server_hostname")

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._last = tls.context()
        self.server_hostname = tls.server_name

    @property
    def context(self) -> ssl.SSLContext:
        """The context of the attempt that begins."""
        try:
            self._last = self._tls.context()
        except SettingsError:
            return self._last
        return self._last


def taken(setting: str, query: MutableMapping[str, str]) -> Tls | None:
    """What a URL's query says of TLS, taken out of it; None where it says nothing.

    Raises:
        SettingsError: it asks for a server that isn't verified, or in pika's form.
    """
    if "ssl_options" in query:
        # pika's, a Python expression that may leave the server unverified.
        raise SettingsError(f"{setting}: ssl_options: expected cacertfile, certfile and keyfile in its place")
    said = {name: query.pop(name) for name in _NAMES if name in query}
    if said.get("verify", "verify_peer") != "verify_peer":
        raise SettingsError(f"{setting}: verify: expected verify_peer, for the server is always verified")
    files = {name: said.get(name) for name in (*_FILES, "password")}
    return Tls(setting, **files, server_name=said.get("server_name_indication")) if said else None
