"""Newcomers at a full server: who makes room for them, whose turn it is, and who can't wait."""

import asyncio
import os
from contextlib import suppress

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from busmon.exporter.access import gate
from busmon.exporter.access.access import Access
from busmon.exporter.server import connection
from busmon.exporter.server.connection import Connection
from busmon.exporter.server.connection_limit import ConnectionLimit, State

from .serving import (
    ASKED,
    CROWD,
    PATIENCE_SECONDS,
    SCRAPER,
    Blocked,
    insecure,
    open_slowly,
    served,
    until,
)

pytestmark = pytest.mark.usefixtures("soon")


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


@pytest.mark.usefixtures("even_steps")
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
