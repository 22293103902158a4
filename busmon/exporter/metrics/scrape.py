"""The scrape: reads the shards' files off the event loop, one collection at a time, and shares what it read.

Requests that arrive while a collection runs share the next one, and its compression, so a hundred scrapers cost what
two do. Lives on the event loop; reading and compressing run in threads.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

import structlog
from isal import igzip
from prometheus_client.core import Metric

from busmon import status
from busmon.catalogue.catalogue import Catalogue
from busmon.errors import CatalogueError, ReplicaIncompleteError, ScrapeBusyError
from busmon.exporter.checks.findings import Findings
from busmon.exporter.metrics.negotiation import Format
from busmon.exporter.metrics.own import Own
from busmon.exporter.metrics.readings import Readings
from busmon.exporter.overview.fill import Fill
from busmon.exporter.overview.overview import Scraped
from busmon.exporter.overview.window import Figures, Window, figures
from busmon.exporter.readiness import rollcall
from busmon.exporter.readiness.replicas import Replicas
from busmon.garbage import PermanentTables
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.snapshot import RegistrySnapshot
from busmon.registry.storage.rejected_samples import RejectedReader, RejectedSample
from busmon.settings import Settings

log = structlog.get_logger(__name__)

Made = TypeVar("Made")

SAMPLE_INTERVAL_SECONDS = 1.0
"""The age at which the overview's figures are read again."""

MAX_WAITING = 8
"""Collections that may wait for one address: those of all families are few, but each set of names is another."""

_COMPRESS_LEVEL = 1  # 100,000 series, 7 MB: 5 ms for 0.6 MB; the standard library's level 9 takes 300 ms for 0.5 MB.


class Page:
    """One scrape's answer, compressed at most once, however many ask for it.

    Attributes:
        plain: the answer.
        figures: the overview's, of the same collection; None where newer ones are known.
    """

    def __init__(self, plain: bytes, figures: Figures | None) -> None:
        self.plain = plain
        self.figures = figures
        self._compressing: asyncio.Task[bytes] | None = None

    async def compress(self) -> bytes:
        """Return the answer in gzip's format."""
        if self._compressing is None:
            self._compressing = asyncio.create_task(asyncio.to_thread(compress, self.plain))
        return await asyncio.shield(self._compressing)


class _Scraped(NamedTuple):
    """One scrape of all families; `at` is the monotonic clock's."""

    at: float
    took_seconds: float
    size_bytes: int


def compress(plain: bytes) -> bytes:
    """Compress bytes into gzip's format."""
    packed: bytes = igzip.compress(plain, _COMPRESS_LEVEL)
    return packed


class Scrape:
    """All reading of one registry directory.

    Args:
        settings: the registry directory, and the catalogue with TTLs and quantiles of its families.
        findings: gives what the checks last found.
        access: gives the families that tell who may read.
        make_room: returns whether there is room in memory for one more page that one of these addresses waits for.

    Attributes:
        window: the overview's; each scrape feeds it, and `follow` between scrapes.
        rejected: the last rejected samples as of the newest figures, newest first.
    """

    def __init__(
        self,
        settings: Settings,
        findings: Callable[[], Findings] = Findings,
        access: Callable[[], Iterable[Metric]] = tuple,
        make_room: Callable[[Collection[str]], bool] = lambda _: True,
    ) -> None:
        self._settings = settings
        self._replicas = Replicas(settings.registry_dir) if settings.replication == "stream" else None
        self._tables = PermanentTables()
        self._go_by(Catalogue.load(settings.catalogue))
        self._reload_due = False
        self._own = Own(
            settings.registry_dir,
            lambda: self.skipped,
            lambda: self._exposition.series,
            findings,
            access,
            adopted=lambda: (self._fill.count_adopted(), self._fill.adopted_budget),
            host=settings.host_name,
        )
        self._last: _Scraped | None = None
        self._rejected = RejectedReader(settings.registry_dir)
        self.rejected: Sequence[RejectedSample] = ()
        self.window = Window()
        self._readings = Readings(make_room)

    @property
    def skipped(self) -> dict[str, str]:
        """The files that the last collection left out, with reasons, both as text, which not every file's name is."""
        skipped = self._exposition.skipped
        return {
            file.encode(errors="replace").decode(): why.encode(errors="replace").decode()
            for file, why in skipped.items()
        }

    async def page(
        self, form: Format, *, compressed: bool, names: frozenset[str] = frozenset(), address: str = ""
    ) -> bytes:
        """Return the exposition in this format, gzip-compressed if asked.

        Args:
            form: which one.
            compressed: whether to compress it.
            names: of families and samples; only these if there are some.
            address: of the client; each has its turns.

        Raises:
            ScrapeBusyError: too many of this address wait already, each for other names.
            ReplicaIncompleteError: a replica of this host isn't whole yet.
        """
        if names and (form, names) not in self._readings and self._readings.count(address) >= MAX_WAITING:
            raise ScrapeBusyError(f"{MAX_WAITING} scrapes of different names wait already")
        page = await self._readings.share(
            (form, names), address, lambda: self._read(lambda: self._page(form, names)), is_large=True
        )
        self._feed(page.figures)
        return await page.compress() if compressed else page.plain

    async def follow(self, address: str = "") -> None:
        """Feed the window, with figures at most a second old, for a client of this address."""
        if self.window.due(time.monotonic(), SAMPLE_INTERVAL_SECONDS):
            with suppress(ReplicaIncompleteError):  # a part of the totals would look like growth later
                self._feed(await self._readings.share("figures", address, lambda: self._read(self._collect)))

    @property
    def scraped(self) -> Scraped | None:
        """The last scrape of all families."""
        last = self._last
        return Scraped(time.monotonic() - last.at, last.took_seconds, last.size_bytes) if last else None

    @property
    def series_used(self) -> int:
        """Series that count towards the budget of all families."""
        return self._fill.used

    @property
    def series_budget(self) -> int:
        """The limit of series of all families."""
        return self._fill.budget

    def reload(self) -> None:
        """Request a reload of the catalogue before the next reading. May be called in a signal handler."""
        self._reload_due = True

    def _feed(self, newest: Figures | None) -> None:
        # Who shares a collection gets the same figures; a scrape's may be of before another's.
        if newest and (self.window.latest is None or newest.at > self.window.latest.at):
            self.window.add(newest)

    def _reload(self) -> None:
        """Reload the catalogue if that was requested, and read all files again: a TTL applies to each series."""
        if not self._reload_due:
            return
        self._reload_due = False
        try:
            self._go_by(Catalogue.load(self._settings.catalogue))
        except CatalogueError as error:
            log.warning("scrape.reload_refused", cause=str(error))
        else:
            log.info("scrape.catalogue_reloaded")

    def _go_by(self, catalogue: Catalogue) -> None:
        ahead_seconds = {} if self._replicas is None else self._replicas.ahead_seconds
        self._exposition = Exposition(
            self._settings.registry_dir, catalogue, ahead_seconds=ahead_seconds, note_begin=self._tables.begin
        )
        self._fill = Fill(self._settings, catalogue)

    def _read(self, make: Callable[[], Made]) -> Made:
        """Make something of the files, and have the garbage collector pass over their series."""
        self._reload()
        try:
            return make()
        finally:
            self._tables.settle(sum(self._exposition.series.values()))

    def _page(self, form: Format, names: frozenset[str]) -> Page:
        self._require_whole()
        began = time.perf_counter()
        shards = self._exposition.openmetrics(names) if form is Format.OPENMETRICS else self._exposition.text(names)
        took_seconds = time.perf_counter() - began
        self._own.durations.observe(took_seconds)
        # A worker that begins to read says so before it empties its files.
        self._require_whole()
        page = shards + self._own.exposition(form, names)
        if not names:
            self._last = _Scraped(time.monotonic(), took_seconds, len(page))
        due = self.window.due(time.monotonic(), SAMPLE_INTERVAL_SECONDS)
        return Page(page, self._figures(self._exposition.snapshot) if due else None)

    def _require_whole(self) -> None:
        if self._replicas is not None:
            self._replicas.require_whole()

    def _collect(self) -> Figures:
        self._require_whole()
        snapshot = self._exposition.collect()
        self._require_whole()
        return self._figures(snapshot)

    def _figures(self, snapshot: RegistrySnapshot) -> Figures:
        now = time.monotonic()
        self.rejected = self._rejected.read().samples
        shards = rollcall.call(status.read(self._settings.registry_dir), time.time()).shards
        return figures(now, snapshot, shards, self._fill.rows(snapshot, self._exposition.series))
