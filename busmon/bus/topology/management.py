"""A client of RabbitMQ's management API, for declaring and checking the topology.

One connection for each request, and no state. No proxy is used, so that no other server gets the password.
"""

import json
from collections import deque
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from busmon import http
from busmon.bus.connect.connection import one_line, words
from busmon.bus.connect.tls import Tls, take_options
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, SettingsError
from busmon.settings import split_urls

_TIMEOUT_SECONDS = 10
_NOT_FOUND = 404
_ITS_PORT = "check host and port in management_url; the management API's port is 15672 by default"
_WRONG_LOGIN = frozenset({"Login failed", "Not_Authorized"})  # in RabbitMQ 3's words, and 4's


class Management:
    """The API at a URL such as `http://user:password@localhost:15672`, or at several of one cluster.

    A request goes to the first URL that answers; a URL that doesn't answer comes last from then on.

    Raises:
        SettingsError: a URL names certificates that can't be read, or an option that doesn't exist.
        BrokerUnreachableError: no server answers, or the server has no management API; from every method.
        BrokerRefusedError: the user, the password or the user's tags are not enough; from every method.
    """

    def __init__(self, urls: str) -> None:
        self._apis = deque(_Api(url) for url in split_urls(urls))

    def get(self, *path: str, query: str = "") -> Any:
        """Return the object at a path, decoded from JSON; None if there is none."""
        return self._first_answer("GET", path, query, None)

    def put(self, *path: str, content: dict[str, Any]) -> None:
        """Set the object at a path."""
        self._first_answer("PUT", path, "", json.dumps(content).encode())

    def _first_answer(self, method: str, path: tuple[str, ...], query: str, content: bytes | None) -> Any:
        failures = []
        for _ in range(len(self._apis)):
            try:
                return self._apis[0].request(method, path, query, content)
            except BrokerUnreachableError as error:
                failures.append(error)
                self._apis.rotate(-1)
        raise BrokerUnreachableError("; ".join(map(str, failures))) from failures[-1]


class _Api:
    """The API of one node."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = _tls(parts) if parts.scheme == "https" else None
        self._address = parts.hostname or "localhost", parts.port or (443 if parts.scheme == "https" else 15672)
        self._path = parts.path.rstrip("/")
        self._user = unquote(parts.username or "")
        self._password = unquote(parts.password or "")

    def request(self, method: str, path: tuple[str, ...], query: str, content: bytes | None) -> Any:
        """Send a request and return the decoded answer; None if there is no object."""
        target = "/".join([self._path, "api", *(quote(part, safe="") for part in path)]) + query
        headers = {**http.basic_authorization(self._user, self._password), "Content-Type": "application/json"}
        host, port = self._address
        server = http.Server(host, port, _TIMEOUT_SECONDS, self._tls.context() if self._tls else None)
        try:
            return self._decode(*server.request(method, target, headers, content))
        except (*http.ERRORS, ValueError) as error:
            raise BrokerUnreachableError(f"management API at {host}:{port}: {words(error)}; {_ITS_PORT}") from error

    def _decode(self, status: int, body: bytes) -> Any:
        if status == _NOT_FOUND:
            return None
        if status >= 300:  # noqa: PLR2004 - HTTP's classes of status codes
            reason = _reason(body)
            remedy = "; check user and password in management_url" if reason in _WRONG_LOGIN else ""
            raise BrokerRefusedError(f"management API as user {self._user!r}: {status} {reason}{remedy}")
        return json.loads(body) if body else None


def _tls(parts: SplitResult) -> Tls:
    said = dict(parse_qsl(parts.query))
    found = take_options("management_url", said) or Tls("management_url")
    if said or found.server_name:
        unknown = next(iter(said), "server_name_indication")
        raise SettingsError(f"management_url: {unknown}: unknown option; expected cacertfile, certfile or keyfile")
    return found


def _reason(body: bytes) -> str:
    try:
        return one_line(str(json.loads(body)["reason"]))
    except (ValueError, KeyError, TypeError):
        return one_line(body[:200].decode(errors="replace"))
