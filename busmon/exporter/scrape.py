"""The scrape: reads the shards' files off the event loop, one collection at a time, and shares what it read.

Requests that arrive while a collection runs share the next one, so each sees everything committed before it asked, and
a hundred scrapers cost what two do. Lives on the event loop; only the reading itself runs in a thread.
"""

import asyncio
import gzip
import time
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

from busmon.exporter.metrics import Own
from busmon.exporter.negotiation import Format
from busmon.exporter.overview import Figures, Window, figures
from busmon.registry.exposition import Exposition

Result = TypeVar("Result")

SAMPLE_INTERVAL_SECONDS = 1.0
"""How old the overview's figures get before they are read anew."""

_COMPRESS_LEVEL = 1  # 100,000 series: 0.1 s for 1.1 MB; level 9, the default, took 2 s for 0.8 MB.


class Scrape:
    """All reading of one registry directory."""

    def __init__(self, registry_dir: Path) -> None:
        self._exposition = Exposition(registry_dir)
        self._own = Own(registry_dir, lambda: self._exposition.skipped, lambda: self._exposition.series)
        self._window = Window()
        self._reading = asyncio.Lock()
        self._next: dict[Hashable, asyncio.Task[Any]] = {}

    @property
    def skipped(self) -> dict[str, str]:
        """The files that the last collection left out, with reasons."""
        return dict(self._exposition.skipped)

    async def page(self, form: Format, *, compressed: bool) -> bytes:
        """The whole exposition in this format, gzip-compressed if asked."""
        return await self._shared((form, compressed), lambda: self._page(form, compressed=compressed))

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

    def _page(self, form: Format, *, compressed: bool) -> bytes:
        began = time.perf_counter()
        shards = self._exposition.openmetrics() if form is Format.OPENMETRICS else self._exposition.text()
        self._own.durations.observe(time.perf_counter() - began)
        whole = shards + self._own.exposition(form)
        return gzip.compress(whole, _COMPRESS_LEVEL) if compressed else whole

    def _figures(self) -> Figures:
        return figures(time.monotonic(), self._exposition.collect())
