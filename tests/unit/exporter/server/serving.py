"""A real uvicorn with the exporter's connections, and clients that behave badly."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from busmon.exporter.access.access import Access
from busmon.exporter.access.gate import Gate
from busmon.exporter.server.server import Server

PATIENCE_SECONDS = 30
BUFFER_BYTES = 16_384
LARGE = b"x" * 20_000_000
ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CROWD, SCRAPER = "127.0.0.1", "127.0.0.2"


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(LARGE)(scope, receive, send)


async def small(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("small")(scope, receive, send)


Talk = Callable[[int, uvicorn.Server], Awaitable[None]]


def served(access: Access, talk: Talk, app: ASGIApp = small, most: int = 8, most_waiting: int = 64) -> None:
    """Talk to a server of this app."""

    async def play() -> None:
        server = Server(Gate(app, access), access, most, most_waiting)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)  # for accepted sockets, too
            serving = asyncio.create_task(server.serve([listener]))
            await talk(listener.getsockname()[1], server)
            server.should_exit = True
            await serving

    asyncio.run(asyncio.wait_for(play(), PATIENCE_SECONDS))


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - nothing tells when a connection comes or goes
        await asyncio.sleep(0.01)


async def end(port: int, sent: bytes) -> bytes:
    """Read the answers until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = b""
    with suppress(ConnectionError):
        while part := await reader.read(65_536):
            answer += part
    writer.close()
    return answer


class Blocked:
    """An application that notes who asks, and who is answered, once it is told to answer."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self.gone: list[str] = []
        self.answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        address = scope["client"][0]
        self.asked.append(address)
        try:
            await self.answer.wait()
        except asyncio.CancelledError:
            self.gone.append(address)
            raise
        self.answered.append(address)
        await PlainTextResponse("small")(scope, receive, send)


def insecure() -> ssl.SSLContext:
    """Make a client's context that verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def open_slowly(port: int, *, is_closed: bool) -> socket.socket:
    """Open a connection whose buffer takes a small part of an answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(("127.0.0.1", port))
    if not is_closed:
        return client
    return insecure().wrap_socket(client)
