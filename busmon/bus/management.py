"""A client of RabbitMQ's management API, as much of one as declaring and checking need.

One request, one connection, one answer; nothing is kept. No proxy is asked: a broker's management is near, and the
password should reach nobody else.
"""

import json
from base64 import b64encode
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from busmon.bus.connection import one_line, words
from busmon.bus.tls import Tls, taken
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, SettingsError

_TIMEOUT_SECONDS = 30
_NOT_FOUND = 404


class Management:
    """The API at a URL such as `http://user:password@localhost:15672`.

    Raises:
        SettingsError: the URL names certificates that can't be read, or an option that doesn't exist.
        BrokerUnreachableError: nobody answers there, or nothing that is a management API; from every method.
        BrokerRefusedError: the user, the password or the user's tags are not enough; from every method.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = _tls(parts) if parts.scheme == "https" else None
        self._address = parts.hostname or "localhost", parts.port or (443 if parts.scheme == "https" else 15672)
        self._path = parts.path.rstrip("/")
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")

    def get(self, *path: str, query: str = "") -> Any:
        """What is there, decoded from JSON; None if there is nothing."""
        return self._request("GET", path, query, None)

    def put(self, *path: str, content: dict[str, Any]) -> None:
        """Set what is there."""
        self._request("PUT", path, "", json.dumps(content).encode())

    def _request(self, method: str, path: tuple[str, ...], query: str, content: bytes | None) -> Any:
        target = "/".join([self._path, "api", *(quote(part, safe="") for part in path)]) + query
        credentials = b64encode(f"{self._user}:{self._password}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        host, port = self._address
        connection = self._connection(host, port)
        try:
            connection.request(method, target, content, headers)
            response = connection.getresponse()
            return self._answer(response.status, response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise BrokerUnreachableError(f"management API at {host}:{port}: {words(error)}") from error
        finally:
            connection.close()

    def _connection(self, host: str, port: int) -> HTTPConnection:
        if self._tls:
            return HTTPSConnection(host, port, timeout=_TIMEOUT_SECONDS, context=self._tls.context())
        return HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)

    def _answer(self, status: int, body: bytes) -> Any:
        if status == _NOT_FOUND:
            return None
        if status >= 300:  # noqa: PLR2004 - HTTP's classes of status codes
            raise BrokerRefusedError(f"management API as user {self._user!r}: {status} {_reason(body)}")
        return json.loads(body) if body else None


def _tls(parts: SplitResult) -> Tls:
    said = dict(parse_qsl(parts.query))
    found = taken("management_url", said) or Tls("management_url")
    if said or found.server_name:
        unknown = next(iter(said), "server_name_indication")
        raise SettingsError(f"management_url: {unknown}: unknown option; expected cacertfile, certfile or keyfile")
    return found


def _reason(body: bytes) -> str:
    try:
        return one_line(str(json.loads(body)["reason"]))
    except (ValueError, KeyError, TypeError):
        return one_line(body[:200].decode(errors="replace"))
