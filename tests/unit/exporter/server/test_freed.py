"""A connection that has ended is freed at once, with its buffers: no cycle waits for a full garbage collection."""

import asyncio
import gc
import socket
import struct
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from starlette.types import ASGIApp

from busmon.exporter.access.access import Access
from busmon.exporter.server.connection import Connection

from .serving import ASKED, CROWD, insecure, large, served, small, until


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Keep the collector from running."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def count_connections() -> int:
    return sum(type(known) is Connection for known in gc.get_objects())


def reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


Leave = Callable[[asyncio.StreamWriter], None]


@pytest.mark.parametrize("leave", [asyncio.StreamWriter.close, reset], ids=["closes", "resets"])
@pytest.mark.parametrize(
    ("sent", "is_answered"),
    [
        (b"", False),
        (b"GET / HT", False),
        (ASKED, False),
        (ASKED, True),
        (ASKED.replace(b"x", b"x\r\nConnection: close"), True),
    ],
    ids=["asks nothing", "asks half", "asks", "is answered", "is closed"],
)
@pytest.mark.parametrize("app", [small, large])
@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_client_that_leaves(  # noqa: PLR0913 - every way in which a client can leave
    closed: Access, leave: Leave, sent: bytes, app: ASGIApp, *, is_answered: bool, is_tls: bool
) -> None:
    async def talk(port: int, server: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection(CROWD, port, ssl=insecure() if is_tls else None)
        await until(lambda: count_connections() == 1)
        writer.write(sent)
        if is_answered:
            await reader.readexactly(12)
        leave(writer)
        await until(lambda: not server.server_state.connections)
        await until(lambda: count_connections() == 0)

    served(closed if is_tls else Access(None), talk, app)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n", b""], ids=len
)
def test_a_client_that_begins_no_handshake(closed: Access, sent: bytes) -> None:
    async def talk(port: int, _server: uvicorn.Server) -> None:
        _reader, writer = await asyncio.open_connection(CROWD, port)
        await until(lambda: count_connections() == 1)
        writer.write(sent)
        writer.close()
        await until(lambda: count_connections() == 0)

    served(closed, talk)
