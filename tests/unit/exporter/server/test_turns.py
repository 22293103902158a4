"""The turns of requests, on a real loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from busmon.exporter.server.turns import Turns

pytestmark = pytest.mark.usefixtures("even_steps")

PATIENCE_SECONDS = 30
CROWD = 50
STEPS = 10


def play(course: Callable[[Turns], Awaitable[None]]) -> None:
    async def begin() -> None:
        await course(Turns())

    asyncio.run(asyncio.wait_for(begin(), PATIENCE_SECONDS))


def test_a_crowd_delays_each_step_of_another_address_by_one_of_its_own() -> None:
    steps: list[str] = []

    async def work(address: str) -> None:
        for _ in range(STEPS):
            steps.append(address)
            await asyncio.sleep(0)

    async def course(turns: Turns) -> None:
        addresses = ["crowd"] * CROWD + ["scraper"]
        await asyncio.gather(*(turns.run(address, work(address)) for address in addresses))

    play(course)
    assert len(steps) == (CROWD + 1) * STEPS
    assert steps[: 2 * STEPS] == ["crowd", "scraper"] * STEPS


def test_the_steps_of_an_address_keep_their_order() -> None:
    steps: list[int] = []

    async def work(number: int) -> None:
        for _ in range(3):
            steps.append(number)
            await asyncio.sleep(0)

    async def course(turns: Turns) -> None:
        await asyncio.gather(*(turns.run("a", work(number)) for number in range(5)))

    play(course)
    assert steps == [*range(5)] * 3


def test_work_waits_and_fails_as_it_would_without_turns() -> None:
    async def work() -> None:
        assert [*await asyncio.gather(asyncio.sleep(0, 1), asyncio.to_thread(lambda: 2))] == [1, 2]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        raise LookupError

    async def course(turns: Turns) -> None:
        with pytest.raises(LookupError):
            await turns.run("a", work())

    play(course)


@pytest.mark.parametrize("passes", range(5))
def test_work_that_is_cancelled_is_told_wherever_it_waits_and_the_others_go_on(passes: int) -> None:
    told: list[int] = []
    done: list[int] = []

    async def work(number: int) -> None:
        try:
            for _ in range(STEPS):
                await asyncio.sleep(0)
            done.append(number)
        except asyncio.CancelledError:
            told.append(number)
            raise

    async def course(turns: Turns) -> None:
        tasks = [asyncio.create_task(turns.run("a", work(number))) for number in range(3)]
        for _ in range(3 * 2 + passes):
            await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert tasks[1].cancelled()

    play(course)
    assert (told, done) == ([1], [0, 2])


@pytest.mark.parametrize("passes", range(8))
def test_an_address_whose_only_work_is_cancelled_while_it_waits_stops_nobody(passes: int) -> None:
    async def work(steps: int, milliseconds: int = 0) -> None:
        for _ in range(steps):
            for _ in range(milliseconds):
                time.thread_time()
            await asyncio.sleep(0)

    async def course(turns: Turns) -> None:
        leaving = asyncio.create_task(turns.run("took most", work(1000, milliseconds=20)))
        for _ in range(10 * STEPS):
            await asyncio.sleep(0)
        staying = [asyncio.create_task(turns.run("took less", work(STEPS))) for _ in range(5)]
        for _ in range(STEPS + passes):
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(*staying)
        await turns.run("comes later", work(1))

    play(course)


def test_short_work_that_comes_again_and_again_leaves_long_work_its_turns() -> None:
    steps, asked = 0, 0

    async def long() -> None:
        nonlocal steps
        while asked < 100 * STEPS:
            steps += 1
            await asyncio.sleep(0)

    async def short() -> None:
        nonlocal asked
        asked += 1

    async def ask_again(turns: Turns, address: str) -> None:
        while asked < 100 * STEPS:
            await turns.run(address, short())
            await asyncio.sleep(0)

    async def course(turns: Turns) -> None:
        scraping = asyncio.create_task(turns.run("scraper", long()))
        for _ in range(STEPS):
            await asyncio.sleep(0)
        await asyncio.gather(*(ask_again(turns, f"{number}") for number in range(16)))
        await scraping

    play(course)
    assert steps >= 2 * STEPS
