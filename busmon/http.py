"""One HTTP request over a connection of its own, directly to the server: no proxy is used, and nothing is kept."""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLContext
from typing import NamedTuple

MAX_BYTES = 64 * 1024 * 1024
"""The most of an answer that is read."""

ERRORS = (OSError, HTTPException)
"""The errors of a request without an answer."""


class Answer(NamedTuple):
    """The status and the body of an answer."""

    status: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """A server to ask.

    Attributes:
        host: a name or an address.
        port: the TCP port.
        timeout_seconds: of each wait for the server.
        context: TLS with this context; plain HTTP without.
    """

    host: str
    port: int
    timeout_seconds: float
    context: SSLContext | None = None

    def request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Send a request and read its answer.

        Args:
            method: `GET`, `PUT` or another.
            target: path and query.
            headers: in addition to those that HTTP needs.
            body: of the request.

        Raises:
            OSError, HTTPException: there is no answer, or not in HTTP: `ERRORS`.
        """
        connection = self._connect()
        try:
            connection.request(method, target, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.read(MAX_BYTES))
        finally:
            connection.close()

    def _connect(self) -> HTTPConnection:
        if self.context:
            return HTTPSConnection(self.host, self.port, timeout=self.timeout_seconds, context=self.context)
        return HTTPConnection(self.host, self.port, timeout=self.timeout_seconds)


def basic_authorization(user: str, password: str) -> dict[str, str]:
    """Make the header of basic authentication (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"}
