import asyncio
import gzip
import threading
from collections.abc import Collection
from pathlib import Path

import pytest

from busmon import status
from busmon.errors import ScrapeBusyError
from busmon.exporter.metrics.negotiation import Format
from busmon.exporter.metrics.scrape import MAX_WAITING, Scrape
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.snapshot import RegistrySnapshot
from busmon.settings import Settings
from busmon.status import ShardStatus
from tests.unit.exporter import fleet


class Held:
    """A stand-in for the reading of the files, which ends when it is told to."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.end = threading.Semaphore(0)
        self.count = 0

    def text(self) -> bytes:
        self.count += 1
        number = self.count
        self.began.release()
        self.end.acquire()
        return f"reading {number}\n".encode()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    stand_in = Held()
    monkeypatch.setattr("busmon.registry.scrape.exposition.Exposition.text", lambda *_: stand_in.text())
    return stand_in


def test_requests_that_come_while_one_reads_share_the_next_reading(tmp_path: Path, held: Held) -> None:
    async def play() -> list[bytes]:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        first = asyncio.create_task(scrape.page(Format.TEXT, compressed=False))
        await asyncio.to_thread(held.began.acquire)
        late = [asyncio.create_task(scrape.page(Format.TEXT, compressed=False)) for _ in range(50)]
        await asyncio.sleep(0)
        held.end.release(2)
        return await asyncio.gather(first, *late)

    pages = asyncio.run(play())
    assert held.count == 2
    assert pages[0].startswith(b"reading 1\n")
    assert all(page.startswith(b"reading 2\n") for page in pages[1:])


def test_scrapes_of_ever_other_names_are_told_to_come_again_and_those_of_all_families_never(
    tmp_path: Path, held: Held
) -> None:
    async def play() -> list[bytes | BaseException]:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        first = asyncio.create_task(scrape.page(Format.TEXT, compressed=False))
        await asyncio.to_thread(held.began.acquire)
        named = [
            asyncio.create_task(scrape.page(Format.TEXT, compressed=False, names=frozenset({str(number)})))
            for number in range(MAX_WAITING + 5)
        ]
        await asyncio.sleep(0)
        last = asyncio.create_task(scrape.page(Format.TEXT, compressed=False))
        held.end.release(2 + MAX_WAITING)
        return await asyncio.gather(first, last, *named, return_exceptions=True)

    pages = asyncio.run(play())
    assert [isinstance(page, ScrapeBusyError) for page in pages] == [False] * (2 + MAX_WAITING) + [True] * 5


def test_each_address_has_its_turn_to_read_and_its_own_number_of_names_that_may_wait(
    tmp_path: Path, held: Held
) -> None:
    async def play() -> list[str]:
        scrape, order = Scrape(Settings(registry_dir=tmp_path)), list[str]()

        async def ask(address: str, *names: str) -> None:
            await scrape.page(Format.TEXT, compressed=False, names=frozenset(names), address=address)
            order.append(address)

        first = asyncio.create_task(ask("crowd"))
        await asyncio.to_thread(held.began.acquire)
        crowd = [asyncio.create_task(ask("crowd", str(number))) for number in range(MAX_WAITING)]
        await asyncio.sleep(0)
        others = [asyncio.create_task(ask("scraper", *names)) for names in ((), ("its own",))]
        await asyncio.sleep(0)
        held.end.release(1 + MAX_WAITING + len(others))
        await asyncio.gather(first, *crowd, *others)
        return order

    order = asyncio.run(play())
    assert (order[:2], order[-1]) == (["crowd", "scraper"], "crowd")
    assert sorted(order) == ["crowd"] * (1 + MAX_WAITING) + ["scraper"] * 2


def test_a_reading_that_nobody_waits_for_any_more_is_not_made(tmp_path: Path, held: Held) -> None:
    async def play() -> None:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        first = asyncio.create_task(scrape.page(Format.TEXT, compressed=False))
        await asyncio.to_thread(held.began.acquire)
        gone = asyncio.create_task(scrape.page(Format.TEXT, compressed=False, names=frozenset({"a"})))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        held.end.release(1)
        await first
        held.end.release(1)
        await scrape.page(Format.TEXT, compressed=False)

    asyncio.run(play())
    assert held.count == 2


def test_a_reading_waits_for_room_and_the_figures_do_not(tmp_path: Path) -> None:
    async def play() -> bool:
        room, asked = asyncio.Event(), list[set[str]]()

        def make_room(addresses: Collection[str]) -> bool:
            asked.append({*addresses})
            return room.is_set()

        scrape = Scrape(Settings(registry_dir=tmp_path), make_room=make_room)
        waiting = asyncio.create_task(scrape.page(Format.TEXT, compressed=False, address="a"))
        await asyncio.sleep(0)
        await scrape.follow("b")
        had_to_wait = not waiting.done()
        room.set()
        await waiting
        assert {"a"} in asked
        return had_to_wait

    assert asyncio.run(play())


def test_a_client_that_goes_away_doesnt_end_what_others_wait_for(tmp_path: Path, held: Held) -> None:
    async def play() -> bytes:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        gone = asyncio.create_task(scrape.page(Format.TEXT, compressed=False))
        other = asyncio.create_task(scrape.page(Format.TEXT, compressed=False))
        await asyncio.to_thread(held.began.acquire)
        gone.cancel()
        held.end.release(2)
        return await other

    assert asyncio.run(play()).startswith(b"reading 1\n")


def test_a_reading_that_fails_is_not_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OSError

    async def play() -> bytes:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        with monkeypatch.context() as failing:
            failing.setattr("busmon.registry.scrape.exposition.Exposition.text", fail)
            with pytest.raises(OSError):  # noqa: PT011 - any will do: it is passed through
                await scrape.page(Format.TEXT, compressed=False)
        return await scrape.page(Format.TEXT, compressed=False)

    assert b"busmon_build_info" in asyncio.run(play())


def test_a_compressed_page_is_the_same_page(tmp_path: Path) -> None:
    async def play() -> tuple[bytes, bytes]:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        plain = await scrape.page(Format.OPENMETRICS, compressed=False)
        return plain, await scrape.page(Format.OPENMETRICS, compressed=True)

    plain, compressed = asyncio.run(play())
    assert gzip.decompress(compressed).splitlines()[:2] == plain.splitlines()[:2]
    assert plain.count(b"# EOF") == 1
    assert plain.endswith(b"# EOF\n")


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[Exposition]:
    """Grows with each collection."""
    collections: list[Exposition] = []
    collect = Exposition.collect

    def noted(exposition: Exposition) -> RegistrySnapshot:
        collections.append(exposition)
        return collect(exposition)

    monkeypatch.setattr(Exposition, "collect", noted)
    return collections


def test_each_scrape_feeds_the_overview_and_costs_it_no_collection(tmp_path: Path, collected: list[Exposition]) -> None:
    async def play() -> Scrape:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        assert scrape.scraped is None
        await scrape.page(Format.TEXT, compressed=False)
        await scrape.follow()
        return scrape

    scrape = asyncio.run(play())
    assert scrape.window.latest is not None
    assert len(collected) == 1
    assert scrape.scraped is not None
    assert scrape.scraped.size_bytes > 0


def test_all_who_follow_at_once_share_one_collection(tmp_path: Path, collected: list[Exposition]) -> None:
    async def play() -> Scrape:
        scrape = Scrape(Settings(registry_dir=tmp_path))
        await asyncio.gather(*(scrape.follow() for _ in range(50)))
        return scrape

    scrape = asyncio.run(play())
    assert len(collected) == 1
    assert not scrape.window.spans


def test_the_overview_takes_no_figures_of_a_part_of_the_totals(tmp_path: Path, collected: list[Exposition]) -> None:
    async def play(*shards: ShardStatus) -> Scrape:
        status.write(tmp_path, fleet.worker(0, *shards))
        scrape = Scrape(Settings(registry_dir=tmp_path, replication="stream"))
        await scrape.follow()
        return scrape

    assert asyncio.run(play(fleet.replicated(0, "reading"))).window.latest is None
    assert not collected
    assert asyncio.run(play(fleet.replicated(0))).window.latest is not None
    assert len(collected) == 1
