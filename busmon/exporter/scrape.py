"""The scrape: reads the shards' files off the event loop, one collection at a time, and shares what it read.

Requests that arrive while a collection runs share the next one, and its compression, so each sees everything committed
before it asked, and a hundred scrapers cost what two do. Lives on the event loop; reading and compressing run in
threads.
"""

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from isal import igzip

from busmon.catalogue.catalogue import Catalogue
from busmon.exporter.metrics import Own
from busmon.exporter.negotiation import Format
from busmon.exporter.overview import Figures, Window, figures
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings

Result = TypeVar("Result")

SAMPLE_INTERVAL_SECONDS = 1.0
"""How old the overview's figures get before they are read anew."""

_COMPRESS_LEVEL = 1  # 100,000 series, 7 MB: 5 ms for 0.6 MB; the standard library's level 9 takes 300 ms for 0.5 MB.


class Page:
    """One scrape's answer, compressed at most once, however many ask for it."""

    def __init__(self, plain: bytes) -> None:
        self.plain = plain
        self._compressing: asyncio.Task[bytes] | None = None

    async def compressed(self) -> bytes:
        """It in gzip's format."""
        if self._compressing is None:
            self._compressing = asyncio.create_task(asyncio.to_thread(compress, self.plain))
        return await asyncio.shield(self._compressing)


def compress(plain: bytes) -> bytes:
    """The bytes in gzip's format."""
    packed: bytes = igzip.compress(plain, _COMPRESS_LEVEL)
    return packed


class Scrape:
    """All reading of one registry directory.

    Args:
        settings: which directory, and the catalogue that says what its families' scrapes go by.
    """

    def __init__(self, settings: Settings) -> None:
        registry_dir = settings.registry_dir
        self._exposition = Exposition(registry_dir, Catalogue.load(settings.catalogue))
        self._own = Own(registry_dir, lambda: self._exposition.skipped, lambda: self._exposition.series)
        self._window = Window()
        self._reading = asyncio.Lock()
        self._next: dict[Hashable, asyncio.Task[Any]] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """The files that the last collection left out, with reasons."""
        return dict(self._exposition.skipped)

    async def page(self, form: Format, *, compressed: bool, names: frozenset[str] = frozenset()) -> bytes:
        """The exposition in this format, gzip-compressed if asked.

        Args:
            form: which one.
            compressed: whether to compress it.
            names: of families and samples; only these if there are some.
        """
        page = await self._shared((form, names), lambda: self._page(form, names))
        return await page.compressed() if compressed else page.plain

    async def window(self) -> Window:
        """The overview's window, fed with figures at most a second old.

        The first answer after a pause takes that second, since a rate needs two collections.
        """
        await self._feed()
        if not self._window.spans:
            await asyncio.sleep(SAMPLE_INTERVAL_SECONDS)
            await self._feed()
        return self._window

    async def _feed(self) -> None:
        if self._window.due(time.monotonic(), SAMPLE_INTERVAL_SECONDS):
            newest = await self._shared("figures", self._figures)
            if newest is not self._window.latest:  # Another request may have shared the collection and fed it.
                self._window.add(newest)

    async def _shared(self, key: Hashable, read: Callable[[], Result]) -> Result:
        if key not in self._next:
            self._next[key] = asyncio.create_task(self._read(key, read))
        task: asyncio.Task[Result] = self._next[key]
        # A client that goes away cancels its own wait, not the reading that others share.
        return await asyncio.shield(task)

    async def _read(self, key: Hashable, read: Callable[[], Result]) -> Result:
        async with self._reading:
            del self._next[key]  # From here on a newcomer needs a newer collection.
            return await asyncio.to_thread(read)

    def _page(self, form: Format, names: frozenset[str]) -> Page:
        began = time.perf_counter()
        shards = self._exposition.openmetrics(names) if form is Format.OPENMETRICS else self._exposition.text(names)
        self._own.durations.observe(time.perf_counter() - began)
        return Page(shards + self._own.exposition(form, names))

    def _figures(self) -> Figures:
        return figures(time.monotonic(), self._exposition.collect())
