"""Connections: what ends them, and what they are answered."""

import asyncio
import socket

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from busmon.exporter.access.access import Access
from busmon.exporter.metrics.held_pages import HeldPages
from busmon.exporter.server.page_response import PageResponse

from .serving import (
    ASKED,
    end,
    large,
    served,
    until,
)

pytestmark = pytest.mark.usefixtures("soon")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHalf-A", ASKED])
def test_who_asks_nothing_is_cut_off(sent: bytes) -> None:
    access = Access(None)

    async def talk(port: int, _: uvicorn.Server) -> None:
        answer = await end(port, sent)
        assert answer.endswith(b"small") == sent.startswith(ASKED)

    served(access, talk)
    assert access.cut["slow"] == 1


@pytest.mark.parametrize("ahead", [ASKED, ASKED * 100, b"GET / HT", b"garbage\r\n\r\n"], ids=len)
def test_who_sends_requests_ahead_is_answered_once(ahead: bytes) -> None:
    access = Access(None)

    async def talk(port: int, _: uvicorn.Server) -> None:
        answer = await end(port, ASKED + ahead)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"\r\nconnection: close\r\n" in answer

    served(access, talk)
    assert not +access.cut


def test_who_sends_a_request_after_the_answer_is_answered_again() -> None:
    async def talk(port: int, _: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _number in range(3):
            writer.write(ASKED)
            assert b"connection: close" not in await reader.readuntil(b"small")
        writer.close()

    served(Access(None), talk)


def test_a_client_has_the_address_that_it_comes_from_whatever_it_states() -> None:
    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["client"][0])(scope, receive, send)

    async def talk(port: int, _: uvicorn.Server) -> None:
        stated = b"GET / HTTP/1.0\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n\r\n"
        assert (await end(port, stated)).endswith(b"\r\n\r\n127.0.0.1")

    served(Access(None), talk, tell)


@pytest.mark.parametrize("page", [b"", b"page"])
def test_a_page_of_any_length_leaves_its_connection_open(page: bytes) -> None:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await PageResponse(page, {"Content-Type": "text/plain"}, HeldPages(), "client")(scope, receive, send)

    async def talk(port: int, _: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _number in range(3):
            writer.write(ASKED)
            assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(page)) == page
        writer.close()

    served(Access(None), talk, answer)


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n" * 40])
def test_a_handshake_that_never_ends_or_fails_leaves_no_connection(closed: Access, sent: bytes) -> None:
    async def talk(port: int, server: uvicorn.Server) -> None:
        await end(port, sent)
        assert not server.server_state.connections

    served(closed, talk)


def test_an_answer_that_nobody_reads_ends_its_connection() -> None:
    access = Access(None)

    async def talk(port: int, server: uvicorn.Server) -> None:
        with socket.socket() as stalled:
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stalled.settimeout(0)
            await asyncio.get_running_loop().sock_connect(stalled, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(stalled, ASKED * 3)
            await until(lambda: access.cut["slow"] > 0)
            assert not server.server_state.connections

    served(access, talk, large)
