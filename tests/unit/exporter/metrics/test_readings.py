"""The readings: whose is next, and for whom a result that nobody takes is in the way."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from busmon.exporter.metrics.readings import Readings

PATIENCE_SECONDS = 30


def play(course: Callable[[Readings], Awaitable[None]]) -> None:
    async def begin() -> None:
        await course(Readings(lambda _: True))

    asyncio.run(asyncio.wait_for(begin(), PATIENCE_SECONDS))


@pytest.mark.parametrize("others", ["abc", "cab", "bca", "xyz"])
def test_addresses_that_ask_again_and_again_leave_one_that_waits_its_turn(others: str) -> None:
    made: list[str] = []

    async def ask(readings: Readings, address: str) -> None:
        await readings.share((address, len(made)), address, lambda: made.append(address))

    async def go_on(readings: Readings, address: str) -> None:
        while True:
            await ask(readings, address)

    async def course(readings: Readings) -> None:
        crowd = [asyncio.create_task(go_on(readings, address)) for address in others]
        while len(made) < 10:  # noqa: ASYNC110 - nothing tells when a reading is made
            await asyncio.sleep(0)
        before = len(made)
        await ask(readings, "scraper")
        assert made.index("scraper") - before <= 2 * len(others)
        for task in crowd:
            task.cancel()

    play(course)


def test_a_result_that_nobody_takes_yet_is_in_the_way_of_its_address_alone() -> None:
    async def course(readings: Readings) -> None:
        untaken = begin(readings.share("page", "crowd", lambda: b"page", is_large=True))
        assert await readings.share("newer page", "scraper", lambda: b"newer", is_large=True) == b"newer"
        more = asyncio.create_task(readings.share("other page", "crowd", lambda: b"other", is_large=True))
        assert await readings.share("figures", "crowd", lambda: 7) == 7
        for number in range(3):
            assert await readings.share(("page", number), "scraper", lambda: b"next", is_large=True) == b"next"
        assert not more.done()
        untaken.close()
        assert await more == b"other"

    play(course)


def begin(waiting: Coroutine[Any, Any, bytes]) -> Coroutine[Any, Any, bytes]:
    """Let a client ask, and never have another step, as one whose address waits for its turn."""
    waiting.send(None)
    return waiting
