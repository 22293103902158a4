"""`Telemetry`: what an agent's code holds. It makes instruments, and sees them through fork, flush and exit.

Its methods are for any thread. After a fork the child goes on with the same instruments, under a source of its own,
with nothing counted yet: what was pending is the parent's to publish.
"""

import atexit
import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from busmon import settings as all_settings
from busmon.catalogue import Catalogue
from busmon.publish.contract import word
from busmon.publish.definitions import Definitions
from busmon.publish.jobs import Job
from busmon.publish.pending import BYTES_PER_VALUE, Shared
from busmon.publish.pools import Pools
from busmon.publish.presence import HEARTBEAT_SECONDS, Presence
from busmon.publish.process import Process
from busmon.publish.sender import Sender
from busmon.publish.series import Series
from busmon.settings import Settings

CLOSE_SECONDS = 5.0
LOOK_SECONDS = 15.0
"""How often processes and pools are looked at."""

PRESENCE_SHARE = 3
"""A gauge that nobody touches is sent this often in each presence TTL."""

_open: set["Telemetry"] = set()


class Telemetry(Definitions):
    """An agent's instruments, published by a thread of its own.

    Use it in a `with`, or `close` it, or leave that to the interpreter's exit; a child of `multiprocessing` ends
    without running exit functions, so close it there.

    Args:
        agent: the name that all runs of this agent share: letters, digits, `_` and `-`.
        amqp_url: the broker; by default the settings'.
        settings: by default those of the environment and `busmon.toml`.
        lifecycle: publish that the agent starts, beats, stops and was started again after an unexpected end.
        confirmed: called on the publishing thread with each body that a queue has stored, for who must account for it.

    Raises:
        ValueError: the agent's name isn't accepted.
        SettingsError: a setting isn't accepted.
        CatalogueError: a catalogue file that the settings name is wrong.
    """

    def __init__(
        self,
        agent: str,
        amqp_url: str | None = None,
        *,
        settings: Settings | None = None,
        lifecycle: bool = True,
        confirmed: Callable[[bytes], None] = lambda _body: None,
    ) -> None:
        self.agent = word(agent, "agent")
        if settings is None:
            settings = all_settings.load({"amqp_url": amqp_url}, caller="Telemetry")
        elif amqp_url is not None:
            settings = replace(settings, amqp_url=amqp_url)
        self._settings = settings
        shared = Shared(
            max_values=settings.publish_buffer_bytes // BYTES_PER_VALUE,
            resend_seconds=settings.presence_ttl_seconds / PRESENCE_SHARE,
        )
        super().__init__(_catalogue(settings.catalogue), Series(shared))
        self._closed: bool | None = None
        self._confirmed = confirmed
        self._pools: Pools | None = None
        self._presence: Presence | None = None
        if lifecycle:
            self._presence = Presence(self, agent, self._settings.spool_dir / agent)
            self._series.watch(self._presence.beat, min(HEARTBEAT_SECONDS, shared.resend_seconds))
        self._sender = Sender(agent, self._series, self._settings, confirmed)
        if self._presence is not None:
            self._presence.start(self.source)
        _open.add(self)

    @property
    def source(self) -> str:
        """The name of this run of this process, never used again."""
        return self._sender.origin.source

    def job(self, name: str) -> Job:
        """Count the runs of a batch job: `with telemetry.job("backup"):`, or as a decorator.

        Counts its start, its good end, its failure by an exception, and holds the time of its last success.
        """
        return Job(self, name)

    def watch(self, look: Callable[[], None], *, interval_seconds: float = LOOK_SECONDS) -> None:
        """Call a function before a publish, at most this often, on the publishing thread: to read what costs something.

        When it fails, that is logged once.
        """
        self._series.watch(look, interval_seconds)

    def watch_process(self, *, interval_seconds: float = LOOK_SECONDS, network: bool = False) -> None:
        """Publish what this process uses of memory, CPU and disk, from now on.

        Args:
            interval_seconds: how often to look.
            network: count the bytes of the network namespace, too: right where the process is alone in its container.

        Raises:
            MissingExtraError: psutil isn't installed.
        """
        self.watch(Process(self, self.agent, network=network).read, interval_seconds=interval_seconds)

    def watch_pool(self, pool: object, type_: str | None = None) -> None:
        """Publish how many connections a pool may hold and has in use.

        Args:
            pool: an SQLAlchemy engine or pool, a psycopg_pool, a redis-py client or pool.
            type_: the label's value; by default postgres or redis, or the dialect of another database.

        Raises:
            TypeError: it is no pool that is known.
        """
        if self._pools is None:
            self._pools = Pools(self)
            self.watch(self._pools.read)
        self._pools.add(pool, type_)

    def flush(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Publish what was recorded until now; whether all of it was confirmed within `timeout` seconds."""
        return self._closed if self._closed is not None else self._sender.flush(timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Publish what was recorded and end; whether all of it was confirmed within `timeout` seconds.

        Instruments may be called afterwards, to no effect.
        """
        if self._closed is None:
            self._closed = False
            _open.discard(self)
            if self._presence is not None:
                self._presence.stop()
            self._closed = self._sender.close(timeout)
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _renew(self) -> None:
        """Go on in a forked child, where the parent's thread doesn't exist."""
        self._series.reset()
        self._sender.abandon()
        self._sender = Sender(self.agent, self._series, self._settings, self._confirmed)
        if self._presence is not None:
            self._presence.start_forked()


@lru_cache(maxsize=8)
def _catalogue(paths: tuple[Path, ...]) -> Catalogue:
    return Catalogue.load(paths)


def _renew_all() -> None:
    for telemetry in tuple(_open):
        telemetry._renew()  # noqa: SLF001 - a hook of the class's own


def _close_all() -> None:
    deadline = monotonic() + CLOSE_SECONDS
    for telemetry in tuple(_open):
        telemetry.close(max(0.0, deadline - monotonic()))


os.register_at_fork(after_in_child=_renew_all)
atexit.register(_close_all)
