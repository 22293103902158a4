"""`Telemetry`: what an agent's code holds. It makes instruments, and sees them through fork, flush and exit.

Its methods are for any thread. After a fork the child goes on with the same instruments, under a source of its own,
with nothing counted yet: what was pending is the parent's to publish. A fork that Python didn't make is noticed by the
child's first call; a child without a call publishes nothing.
"""

import atexit
import logging
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self

from busmon import settings as all_settings
from busmon.catalogue import Catalogue
from busmon.publish import forks, uwsgi
from busmon.publish.contract import word
from busmon.publish.definitions import Definitions
from busmon.publish.jobs import Job
from busmon.publish.pending import BYTES_PER_VALUE, Shared
from busmon.publish.pools import Pools
from busmon.publish.presence import HEARTBEAT_SECONDS, Presence
from busmon.publish.process import Process
from busmon.publish.sender import Sender
from busmon.publish.series import Series
from busmon.publish.spool import find_fault
from busmon.settings import Settings

CLOSE_SECONDS = 5.0
LOOK_SECONDS = 15.0
"""The interval at which processes and pools are read."""

PRESENCE_SHARE = 3
"""A gauge that nobody touches is sent this often in each presence TTL."""

_logger = logging.getLogger("busmon")
_open: set["Telemetry"] = set()


class Telemetry(Definitions):
    """An agent's instruments, published by a thread of its own.

    Use it in a `with`, or `close` it, or leave that to the exit of the interpreter or of a child of `multiprocessing`.
    A process that ends by `os._exit` must close it.

    Args:
        agent: the name that all runs of this agent share: letters, digits, `_` and `-`.
        amqp_url: the broker, or the nodes of a cluster, separated by commas; by default the settings'.
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
        if lifecycle or settings.spool_bytes:
            _warn_of_spool(settings.spool_dir / agent)
        self._pools: Pools | None = None
        self._presence: Presence | None = None
        if lifecycle:
            self._presence = Presence(self, agent, self._settings.spool_dir / agent)
            self._series.watch(self._presence.beat, min(HEARTBEAT_SECONDS, shared.resend_seconds))
        self._sender = Sender(agent, self._series, self._settings, confirmed)
        self._is_waiting = uwsgi.is_before_fork()
        if self._presence is not None and not self._is_waiting:
            self._presence.start(self.source)
        _open.add(self)
        _close_with_multiprocessing()
        uwsgi.look(_begin_all)

    @property
    def source(self) -> str:
        """The name of this run of this process, never used again."""
        forks.notice()
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
        forks.notice()
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
        forks.notice()
        return self._closed if self._closed is not None else self._sender.flush(timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Publish what was recorded and end; whether all of it was confirmed within `timeout` seconds.

        Instruments may be called afterwards, to no effect.
        """
        if not forks.here[0]:  # a fork without a call: it has nothing to publish, and no thread to publish with
            return True
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

    def _forget(self) -> None:
        """Forget in a forked child what is the parent's to publish."""
        if self._is_waiting and uwsgi.inherits():
            self._series.inherit()
        else:
            self._series.reset()

    def _renew(self, *, by_python: bool) -> None:
        """Go on in a forked child, where the parent's thread doesn't exist."""
        self._sender.abandon()
        self._sender = Sender(self.agent, self._series, self._settings, self._confirmed)
        self._is_waiting = uwsgi.is_before_fork()
        if self._presence is not None and not self._is_waiting:
            self._presence.start_forked(is_parent_a_server=not by_python)

    def _begin(self) -> None:
        """Begin in uWSGI's first worker, which is no fork where uWSGI runs without a master."""
        if self._sender.begin() and self._presence is not None:
            self._presence.start(self.source)
        self._is_waiting = False


@lru_cache(maxsize=8)
def _warn_of_spool(directory: Path) -> None:
    """Say once of an agent's directory what goes on without it."""
    if fault := find_fault(directory):
        _logger.warning(
            "spool_dir: %s; what the broker doesn't take is kept in memory alone, and an unexpected end isn't counted:"
            " set BUSMON_SPOOL_DIR to a directory of this user's",
            fault,
        )


@lru_cache(maxsize=8)
def _catalogue(paths: tuple[Path, ...]) -> Catalogue:
    return Catalogue.load(paths)


def _begin_all() -> None:
    for telemetry in tuple(_open):
        telemetry._begin()  # noqa: SLF001 - a hook of the class's own


def _forget_all() -> None:
    for telemetry in tuple(_open):
        telemetry._forget()  # noqa: SLF001 - a hook of the class's own


def _renew_all(by_python: bool) -> None:  # noqa: FBT001 - as `forks.on_fork` calls it
    for telemetry in tuple(_open):
        telemetry._renew(by_python=by_python)  # noqa: SLF001 - a hook of the class's own
    _close_with_multiprocessing()


def _close_all() -> None:
    deadline = monotonic() + CLOSE_SECONDS
    for telemetry in tuple(_open):
        telemetry.close(max(0.0, deadline - monotonic()))


def _close_with_multiprocessing() -> None:
    """Have a child of `multiprocessing` close what is open when it ends: such a child runs no function of `atexit`.

    Where nobody has imported `multiprocessing`, this is no child of it.
    """
    util, process = sys.modules.get("multiprocessing.util"), sys.modules.get("multiprocessing.process")
    if util is None or process is None:
        return
    # A child that begins forgets the exit functions that it had until then, and afterwards calls what is registered so.
    util.register_after_fork(_close_all, _close_at_exit_of_child)
    if process.parent_process() is not None:
        _close_at_exit_of_child(_close_all)


def _close_at_exit_of_child(close_all: Callable[[], None]) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, close_all, exitpriority=-1)


forks.on_fork(_forget_all, _renew_all)
atexit.register(_close_all)
