"""Asking an exporter, from another process: over HTTP or TLS, with a password if its URL has one.

One request, one connection, one answer of bounded size; nothing is kept, and nothing that answers is trusted to be an
exporter. Single-threaded.
"""

import json
import ssl
from http import HTTPStatus
from http.client import BadStatusLine
from urllib.parse import parse_qsl, unquote, urlsplit

from busmon import http
from busmon.bus.connect.tls import Tls, take_options
from busmon.errors import ExporterUnreachableError, SettingsError
from busmon.exporter.overview.overview import Overview
from busmon.settings import address, mask

_TIMEOUT_SECONDS = 5.0
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - turned into loopback, not listened on


class Client:
    """Asks one exporter.

    Args:
        listen: the exporter's `HOST:PORT`, as in its settings.
        url: its URL instead, as `https://user:password@host:9797?cacertfile=…`.

    Raises:
        SettingsError: the URL names certificates that can't be read, or an option that doesn't exist.
    """

    def __init__(self, listen: str, url: str | None = None) -> None:
        self.address = mask(url) if url else listen
        self._headers: dict[str, str] = {}
        self._tls: Tls | None = None
        if url:
            self._from_url(url)
        else:
            host, self._port = address(listen)
            self._host = _ANY_HOST.get(host, host)

    def overview(self) -> Overview:
        """Request the overview.

        Raises:
            ExporterUnreachableError: nothing answers there, or not as an exporter does.
        """
        status, body = self.get("/overview")
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ExporterUnreachableError(f"the exporter at {self.address} can't answer: its log says why")
        if status == HTTPStatus.UNAUTHORIZED:
            raise ExporterUnreachableError(
                f"the exporter at {self.address} doesn't know you: name it with --exporter-url https://USER:PASSWORD@HOST:PORT"
            )
        try:
            return Overview.from_json(json.loads(body))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            line = f"what answers at {self.address} is no busmon exporter of this version"
            raise ExporterUnreachableError(f"{line}; name another with --listen HOST:PORT") from error

    def get(self, path: str) -> tuple[int, bytes]:
        """Request a path, and return the answer's status and body.

        Raises:
            ExporterUnreachableError: nothing answers there, or more than an exporter would.
        """
        context = self._tls.context() if self._tls else None
        server = http.Server(self._host, self._port, _TIMEOUT_SECONDS, context)
        try:
            return server.request("GET", path, self._headers)
        except http.ERRORS as error:
            raise ExporterUnreachableError(f"no exporter answers at {self.address}: {self._why(error)}") from error

    def _why(self, error: Exception) -> str:
        """Describe an error and its remedy in words."""
        if isinstance(error, ssl.SSLCertVerificationError):
            remedy = "name its CA with ?cacertfile=… in the URL, and a host that it is for"
            return f"its certificate isn't trusted ({error.verify_message.rstrip('.')}): {remedy}"
        if isinstance(error, ssl.SSLError):
            said = (error.reason or "no reason given").replace("_", " ").lower()
            return "it speaks http, not https" if said == "wrong version number" else f"no TLS with it ({said})"
        if self._tls is None and isinstance(error, ConnectionResetError | BadStatusLine):
            return "it ends the connection; if it speaks https, name it with --exporter-url https://HOST:PORT"
        said = (error.strerror or str(error)) if isinstance(error, OSError) else "what answers there speaks no HTTP"
        return f"{said}; start one with `busmon up`, or name it with --listen HOST:PORT or --exporter-url URL"

    def _from_url(self, url: str) -> None:
        parts, said = urlsplit(url), dict(parse_qsl(urlsplit(url).query))
        found = take_options("exporter_url", said)
        if said or (found and (parts.scheme != "https" or found.server_name)):
            raise SettingsError(
                f"exporter_url: {mask(url)}: expected https://… with cacertfile, certfile or keyfile, if any"
            )
        self._tls = (found or Tls("exporter_url")) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname or "", parts.port or 9797
        if parts.username:
            self._headers = http.basic_authorization(unquote(parts.username), unquote(parts.password or ""))
