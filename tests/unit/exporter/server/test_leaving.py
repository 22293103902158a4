"""Clients that leave, or close their sending side, before they have their answer."""

import asyncio
import socket
import struct

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from busmon.exporter.access import gate
from busmon.exporter.access.access import Access
from busmon.exporter.overview.viewers import Viewers
from busmon.exporter.server import connection

from .serving import (
    ASKED,
    CROWD,
    LARGE,
    PATIENCE_SECONDS,
    Blocked,
    insecure,
    large,
    served,
    until,
)

pytestmark = pytest.mark.usefixtures("soon")


@pytest.mark.parametrize("is_closed", [False, True], ids=["plain", "TLS"])
def test_a_client_that_leaves_has_its_answer_cancelled(
    closed: Access, monkeypatch: pytest.MonkeyPatch, *, is_closed: bool
) -> None:
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)
    app = Blocked()

    async def talk(port: int, server: uvicorn.Server) -> None:
        _reader, writer = await asyncio.open_connection(CROWD, port, ssl=insecure() if is_closed else None)
        writer.write(ASKED)
        await until(lambda: len(app.asked) == 1)
        # A reset: a client that only closes looks the same as one that sends no more.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await until(lambda: app.gone == [CROWD])
        assert not server.server_state.connections

    served(closed if is_closed else Access(None), talk, app)


@pytest.mark.parametrize("sent", [ASKED, ASKED + b"GET / HT"], ids=len)
def test_a_client_that_closes_its_sending_side_is_answered(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)

    async def talk(port: int, server: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        assert (await reader.read()).endswith(LARGE)
        await until(lambda: not server.server_state.connections)
        writer.close()

    served(Access(None), talk, large)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHalf-A"])
def test_a_client_that_closes_its_sending_side_without_a_request_is_closed(sent: bytes) -> None:
    access = Access(None)

    async def talk(port: int, _server: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()

    served(access, talk)
    assert not +access.cut


def test_an_endless_answer_ends_when_its_client_closes_its_sending_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)

    async def never() -> bytes:
        await asyncio.Event().wait()
        return b""

    viewers = Viewers(never)

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        await viewers.stream(CROWD)(scope, receive, send)

    async def talk(port: int, server: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection(CROWD, port)
        writer.write(ASKED)
        assert (await reader.read(12)) == b"HTTP/1.1 200"
        writer.write_eof()
        await until(lambda: not server.server_state.connections)
        writer.close()

    served(Access(None), talk, stream)
