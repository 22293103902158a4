"""Connections against a real uvicorn, with deadlines that a test can wait for."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from busmon.exporter.access import gate
from busmon.exporter.access.access import Access
from busmon.exporter.access.gate import Gate
from busmon.exporter.metrics.held_pages import HeldPages
from busmon.exporter.overview.viewers import Viewers
from busmon.exporter.server import connection
from busmon.exporter.server.connection import Connection
from busmon.exporter.server.connection_limit import ConnectionLimit, State
from busmon.exporter.server.page_response import PageResponse
from busmon.exporter.server.server import Server
from tests.certificates import Authority

PATIENCE_SECONDS = 30
BUFFER_BYTES = 16_384
LARGE = b"x" * 20_000_000
ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", 0.2)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", 0.2)


@pytest.fixture
def closed(tmp_path: Path) -> Access:
    """With TLS."""
    Authority(tmp_path).for_this_host()
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: server.pem, key_file: server.key}\n")
    return Access(web)


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


def test_the_idlest_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    access = Access(None)

    async def talk(port: int, server: uvicorn.Server) -> None:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await until(lambda: len(server.server_state.connections) == len(idle))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASKED)
        assert (await reader.read(12)) == b"HTTP/1.1 200"
        with suppress(ConnectionError):
            assert await idle[0][0].read() == b""
        assert not idle[1][0].at_eof()
        for _, each in (*idle, (reader, writer)):
            each.close()

    served(access, talk, most=2)
    assert access.cut["crowded"] == 1


def test_a_flood_from_one_address_ends_no_connection_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    access = Access(None)
    most, count = 8, 30

    async def talk(port: int, server: uvicorn.Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        writer.write(ASKED.removesuffix(b"\r\n"))
        await until(lambda: len(server.server_state.connections) == 1)  # the oldest
        flood = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
        # The other address has one place, and one is kept for addresses with less than a share.
        await until(lambda: access.cut["crowded"] == count - (most - 2))
        writer.write(b"\r\n")
        assert (await reader.read(12)) == b"HTTP/1.1 200"
        for _, each in (*flood, (reader, writer)):
            each.close()

    served(access, talk, most=most)


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


CROWD, SCRAPER = "127.0.0.1", "127.0.0.2"


@pytest.mark.parametrize("is_closed", [False, True], ids=["plain", "TLS"])
def test_a_newcomer_of_another_address_has_a_place_and_the_first_turn_whatever_a_crowd_waits_for(
    closed: Access, monkeypatch: pytest.MonkeyPatch, *, is_closed: bool
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)
    app, most, count = Blocked(), 16, 40
    context = insecure() if is_closed else None

    async def talk(port: int, _server: uvicorn.Server) -> None:
        crowd = [await asyncio.open_connection(CROWD, port, ssl=context) for _ in range(most - most // 8)]
        for _, writer in crowd:
            writer.write(ASKED)
        await until(lambda: len(app.asked) == len(crowd))
        waiting = [await asyncio.open_connection(CROWD, port) for _ in range(count)]
        reader, writer = await asyncio.open_connection(CROWD, port, ssl=context, local_addr=(SCRAPER, 0))
        writer.write(ASKED)
        await until(lambda: SCRAPER in app.asked)
        assert app.asked == [CROWD] * len(crowd) + [SCRAPER]
        app.answer.set()
        assert (await reader.read(12)) == b"HTTP/1.1 200"
        await until(lambda: len(app.answered) >= len(app.asked))
        assert app.answered.index(SCRAPER) <= 1
        for _, each in (*crowd, *waiting, (reader, writer)):
            each.close()

    served(closed if is_closed else Access(None), talk, app, most=most)


def test_newcomers_that_cannot_wait_are_closed_at_once_and_those_of_other_addresses_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)
    access, app, most, most_waiting, count = Access(None), Blocked(), 4, 8, 30

    async def talk(port: int, server: uvicorn.Server) -> None:
        _, known = await asyncio.open_connection(CROWD, port, local_addr=(SCRAPER, 0))
        await until(lambda: len(server.server_state.connections) == 1)
        known.close()
        crowd = [await asyncio.open_connection(CROWD, port) for _ in range(most)]
        for _, writer in crowd:
            writer.write(ASKED)
        await until(lambda: len(app.asked) == most)
        waiting = [await asyncio.open_connection(CROWD, port) for _ in range(count)]
        await until(lambda: access.cut["crowded"] == count - most_waiting)
        reader, writer = await asyncio.open_connection(CROWD, port, local_addr=(SCRAPER, 0))
        writer.write(ASKED)
        await until(lambda: access.cut["crowded"] == count - most_waiting + 1)
        for ended, _ in waiting[most_waiting - 1 :]:
            with suppress(ConnectionError):
                assert await ended.read() == b""
        app.answer.set()
        assert (await reader.read(12)) == b"HTTP/1.1 200"
        assert app.asked[most] == SCRAPER
        for _, each in (*crowd, *waiting, (reader, writer)):
            each.close()

    served(access, talk, app, most=most, most_waiting=most_waiting)


def test_a_connection_that_asks_again_and_again_gives_its_place_to_one_that_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)
    app = Blocked()

    async def talk(port: int, _server: uvicorn.Server) -> None:
        first, writer = await asyncio.open_connection(CROWD, port)
        writer.write(ASKED)
        await until(lambda: len(app.asked) == 1)
        second, waiting = await asyncio.open_connection(CROWD, port)
        waiting.write(ASKED)
        await until(lambda: len(refused) > 1)
        app.answer.set()
        assert b"connection: close" not in await first.readuntil(b"small")  # the newcomer came after the request
        writer.write(ASKED)
        answer = await first.read()
        assert b"connection: close" in answer or not answer
        assert b"200" in await second.readuntil(b"small")
        writer.close()
        waiting.close()

    refused = count_refusals(monkeypatch)
    served(Access(None), talk, app, most=1)


def test_newcomers_of_the_only_address_wait_in_the_systems_queue_and_none_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)
    access, app, count = Access(None), Blocked(), 30

    async def talk(port: int, _server: uvicorn.Server) -> None:
        clients = [await asyncio.open_connection(CROWD, port) for _ in range(count)]
        for _, writer in clients:
            writer.write(ASKED)
        await until(lambda: len(refused) > 1)
        app.answer.set()
        for reader, writer in clients:
            assert b"200" in await reader.readuntil(b"small")
            writer.close()

    refused = count_refusals(monkeypatch)
    served(access, talk, app, most=4, most_waiting=4)


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


def insecure() -> ssl.SSLContext:
    """Make a client's context that verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def test_the_end_of_an_answer_that_tls_handed_over_is_not_cut_for_a_newcomer(
    closed: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(gate, "ANSWER_SECONDS", PATIENCE_SECONDS)
    monkeypatch.setattr(State.STALLED, "_value_", PATIENCE_SECONDS)
    body = b"x" * 500_000
    refused = count_refusals(monkeypatch)

    async def long(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(body)(scope, receive, send)

    async def talk(port: int, server: uvicorn.Server) -> None:
        with await asyncio.to_thread(open_slowly, port, is_closed=True) as client:
            await asyncio.to_thread(client.sendall, ASKED)
            answer = await asyncio.to_thread(client.recv, 4096)
            (asking,) = server.server_state.connections
            assert isinstance(asking, Connection)
            while not asking.cycle.response_complete or asking.flow.write_paused:
                answer += await asyncio.to_thread(client.recv, 4096)
            _, newcomer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: len(refused) > 1)
            assert asking.state is State.STALLED
            while not answer.endswith(body):
                part = await asyncio.to_thread(client.recv, 4096)
                assert part
                answer += part
            await until(lambda: asking.state is State.KEPT)
            await until(lambda: closed.cut["crowded"] == 1)
            newcomer.close()

    served(closed, talk, long, most=1)


@pytest.mark.parametrize("is_closed", [False, True], ids=["plain", "TLS"])
def test_a_single_byte_in_the_way_is_seen(closed: Access, monkeypatch: pytest.MonkeyPatch, *, is_closed: bool) -> None:
    monkeypatch.setattr(connection, "REQUEST_SECONDS", PATIENCE_SECONDS)

    async def talk(port: int, server: uvicorn.Server) -> None:
        with await asyncio.to_thread(open_slowly, port, is_closed=is_closed) as client:
            await asyncio.to_thread(client.sendall, ASKED)
            await asyncio.to_thread(client.recv, 4096)
            (answered,) = server.server_state.connections
            assert isinstance(answered, Connection)
            await until(lambda: answered.state is State.KEPT)
            with suppress(BlockingIOError):
                while True:
                    os.write(answered.transport.get_extra_info("socket").fileno(), b"x")
            answered.transport.write(b"x")
            assert answered.state is State.STALLED

    served(closed if is_closed else Access(None), talk)


def count_refusals(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return what has an entry for each time that a newcomer finds no room."""
    refused: list[None] = []
    make_room = ConnectionLimit.make_room

    def counted(limit: ConnectionLimit, address: str) -> bool:
        has_room = make_room(limit, address)
        if not has_room:
            refused.append(None)
        return has_room

    monkeypatch.setattr(ConnectionLimit, "make_room", counted)
    return refused


def open_slowly(port: int, *, is_closed: bool) -> socket.socket:
    """Open a connection whose buffer takes a small part of an answer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.settimeout(PATIENCE_SECONDS)
    client.connect(("127.0.0.1", port))
    if not is_closed:
        return client
    return insecure().wrap_socket(client)
