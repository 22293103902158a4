"""The check of whatever speaks HTTP: a GET that is answered with a status of success. Redirects aren't followed."""

from urllib.parse import unquote, urlsplit

import h11

from busmon import __version__
from busmon.errors import DependencyError
from busmon.exporter.checks.check import Answer
from busmon.exporter.checks.tcp import Streams, connect
from busmon.http import basic_authorization

_READ_BYTES = 4096
_SUCCESS = range(200, 300)


class HttpCheck:
    """Gets one page; its body isn't read.

    Args:
        url: user and password in it are sent as basic authentication.
    """

    conditions: tuple[str, ...] = ()

    def __init__(self, url: str) -> None:
        self._url = url
        self._request = _request(url)

    async def look(self) -> dict[str, Answer]:
        """Request the page, and close once the status is known."""
        async with connect(self._url) as streams:
            try:
                status = await _status(streams, self._request)
            except h11.RemoteProtocolError as error:
                raise DependencyError(f"it doesn't answer in HTTP: {error}") from error
        if status not in _SUCCESS:
            raise DependencyError(f"it answers with status {status}")
        return {}


async def _status(streams: Streams, request: h11.Request) -> int:
    reader, writer = streams
    connection = h11.Connection(h11.CLIENT)
    writer.write(connection.send(request))
    while not isinstance(answer := connection.next_event(), h11.Response):
        if answer is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
    return answer.status_code


def _request(url: str) -> h11.Request:
    parts = urlsplit(url)
    headers = [
        ("Host", parts.netloc.rpartition("@")[2]),
        ("User-Agent", f"busmon/{__version__}"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ]
    if parts.username is not None:
        headers += basic_authorization(unquote(parts.username), unquote(parts.password or "")).items()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return h11.Request(method="GET", target=target, headers=headers)
