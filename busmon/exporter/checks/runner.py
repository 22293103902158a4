"""The runner: a thread with an event loop of its own, on which every check goes round, and the findings that it keeps.

Whoever asks gets the findings as they are, at once: no answer over HTTP ever waits for a dependency, for a driver's
arithmetic (a password costs 4,096 hashes) or for a name that isn't found. The thread ends with the block.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from busmon.exporter.checks import configured
from busmon.exporter.checks.findings import Findings, Usage
from busmon.exporter.checks.resources import Resources
from busmon.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from busmon.exporter.checks.watch import Watch

_LOOKUPS = 8
"""Name lookups of each dependency that may hang at once: one can't be cut off, and must not keep others waiting."""

_END_SECONDS = 1.0


class Checks:
    """The runner.

    Args:
        watches: of the dependencies.
        resources: those of this process.
        interval_seconds: between two readings of the resources.
    """

    def __init__(self, watches: "Sequence[Watch]", resources: Resources, interval_seconds: float) -> None:
        self._watches = watches
        self._resources = resources
        self._interval_seconds = interval_seconds
        self._usage: tuple[Usage, ...] = ()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="checks", daemon=True)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Make the checks that the settings ask for.

        Raises:
            SettingsError: they can't be made.
        """
        return cls(configured.watches(settings), configured.resources(settings), settings.check_interval_seconds)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(_END_SECONDS)

    def findings(self) -> Findings:
        """Return the last findings. May be called from any thread."""
        return Findings(tuple(watch.finding for watch in self._watches), self._usage)

    async def _run(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_default_executor(ThreadPoolExecutor(_LOOKUPS * len(self._watches) + 1, "lookup"))
        self._started.set()
        rounds = [self._read_resources(), *(watch.keep() for watch in self._watches)]
        going = [asyncio.create_task(each) for each in rounds]
        await self._ended.wait()
        for each in going:
            each.cancel()

    async def _read_resources(self) -> None:
        while True:
            self._usage = self._resources.read()
            await asyncio.sleep(self._interval_seconds)
