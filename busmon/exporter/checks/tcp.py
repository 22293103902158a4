"""The check of whatever listens: a connection, and over TLS a certificate that holds."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer, in_words

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_TLS = frozenset({"https", "tls"})
_PORTS = {"http": 80, "https": 443}


class TcpCheck:
    """Connects to one address.

    Args:
        url: `tcp://HOST:PORT` or `tls://HOST:PORT`.
    """

    conditions: tuple[str, ...] = ()

    def __init__(self, url: str) -> None:
        self._url = url

    async def look(self) -> dict[str, Answer]:
        """Connect and leave."""
        async with connect(self._url):
            return {}


@asynccontextmanager
async def connect(url: str) -> AsyncIterator[Streams]:
    """Connect to the URL's host and port until the block ends, which aborts the connection.

    Certificates are held against the system's authorities, or those of `SSL_CERT_FILE`, as OpenSSL has it.

    Raises:
        DependencyError: no connection, or a failure of the block's reads and writes.
    """
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme in _TLS else None
    try:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORTS[parts.scheme], ssl=tls)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
    except OSError as error:
        raise DependencyError(in_words(error)) from error
