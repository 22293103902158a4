"""The pages that answers hold: which answers end when there are too many."""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from busmon.exporter.metrics.held_pages import SLOW_SECONDS, STALLED_SECONDS, Answer, HeldPages

PATIENCE_SECONDS = 30
PAGES = 4
SIZE = 1000


class Holders:
    """Tasks that each hold a page for an address until they are told to end, or are ended."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ended = 0
        self.held = HeldPages(self._end, PAGES * SIZE, lambda: self.now)
        self.tasks: list[asyncio.Task[None]] = []
        self.answers: list[Answer] = []

    def _end(self) -> None:
        self.ended += 1

    async def hold(self, *addresses: str) -> None:
        """Hold one more page for these."""
        page = bytes([len(self.tasks)]) * SIZE
        self.tasks += [asyncio.create_task(self._hold(page, address)) for address in addresses]
        await asyncio.sleep(0)

    async def _hold(self, page: bytes, address: str) -> None:
        with self.held.hold(page, address) as answer:
            self.answers.append(answer)
            await asyncio.Event().wait()

    async def cut(self) -> list[int]:
        await asyncio.sleep(0)
        return [number for number, task in enumerate(self.tasks) if task.cancelled() or task.cancelling()]


def run(course: Callable[[Holders], object]) -> None:
    async def begin() -> None:
        holders = Holders()
        with ExitStack() as stack:
            await course(holders)  # type: ignore[misc]
            for task in holders.tasks:
                stack.callback(task.cancel)

    asyncio.run(asyncio.wait_for(begin(), PATIENCE_SECONDS))


@pytest.mark.parametrize("wanting", ["crowd", "scraper"])
def test_while_there_is_room_no_answer_ends(wanting: str) -> None:
    async def course(holders: Holders) -> None:
        for _ in range(PAGES - 1):
            await holders.hold("crowd", "crowd")
        assert holders.held.make_room([wanting])
        assert not await holders.cut()

    run(course)


@pytest.mark.parametrize("wanting", [["scraper"], ["crowd", "scraper"]])
def test_a_crowd_that_reads_slowly_gives_its_oldest_page_to_another_address(wanting: list[str]) -> None:
    async def course(holders: Holders) -> None:
        for _ in range(PAGES):
            await holders.hold("crowd", "crowd")
        assert holders.held.make_room(wanting)
        assert await holders.cut() == [0, 1]
        assert holders.ended == 2

    run(course)


def test_a_page_stays_while_an_address_with_less_than_an_equal_share_reads_it() -> None:
    async def course(holders: Holders) -> None:
        await holders.hold("crowd", "slow scraper")
        for _ in range(PAGES - 1):
            await holders.hold("crowd")
        assert holders.held.make_room(["scraper"])
        assert await holders.cut() == [2]

    run(course)


@pytest.mark.parametrize("after", [STALLED_SECONDS, SLOW_SECONDS])
def test_for_its_own_address_a_page_goes_if_nobody_takes_it_or_takes_long(after: float) -> None:
    async def course(holders: Holders) -> None:
        for _ in range(PAGES):
            await holders.hold("proxy")
        holders.now += after
        for answer in holders.answers:
            if after == SLOW_SECONDS or answer is holders.answers[0]:
                holders.held.note(answer)
        assert holders.held.make_room(["proxy"])
        assert await holders.cut() == [0 if after == SLOW_SECONDS else 1]

    run(course)


def test_for_its_own_address_a_page_that_is_being_read_stays() -> None:
    async def course(holders: Holders) -> None:
        for _ in range(PAGES):
            await holders.hold("proxy")
        assert not holders.held.make_room(["proxy"])
        assert not await holders.cut()

    run(course)


def test_two_pages_of_any_size_may_be_held() -> None:
    async def course(holders: Holders) -> None:
        holders.held = HeldPages(most_bytes=1)
        await holders.hold("a")
        assert holders.held.make_room(["a"])
        await holders.hold("a")
        assert not holders.held.make_room(["a"])

    run(course)


def test_an_address_with_one_page_keeps_it_however_many_addresses_there_are() -> None:
    async def course(holders: Holders) -> None:
        for number in range(2 * PAGES):
            await holders.hold(f"scraper {number}")
        assert not holders.held.make_room(["another scraper"])
        assert not await holders.cut()

    run(course)
