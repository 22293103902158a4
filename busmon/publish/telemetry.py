"""`Telemetry`: what an agent's code holds. It makes instruments, and sees them through fork, flush and exit.

Its methods are for any thread. After a fork the child goes on with the same instruments, under a source of its own,
with nothing counted yet: what was pending is the parent's to publish.
"""

import atexit
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from math import inf
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from busmon import settings as all_settings
from busmon.catalogue import Catalogue
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY
from busmon.publish.batch import DEFAULT_DOMAIN, Table
from busmon.publish.contract import family_of, full_name, op_of, word
from busmon.publish.instruments import AccumulatingGauge, Counter, Gauge, Histogram, Instrument, Summary
from busmon.publish.pending import BYTES_PER_VALUE, Distribution, Held, Pending, Shared, Sum, Values
from busmon.publish.sender import Sender
from busmon.publish.series import Series
from busmon.settings import Settings

CLOSE_SECONDS = 5.0
PRESENCE_SHARE = 3
"""A source speaks up this often in each presence TTL."""

InstrumentT = TypeVar("InstrumentT", bound=Instrument)

_open: set["Telemetry"] = set()


@dataclass(frozen=True, slots=True)
class _Definition:
    """What a second instrument of one name must agree with."""

    kind: type[Instrument]
    labelnames: tuple[str, ...]
    domain: str
    bounds: tuple[float, ...] = ()


class Telemetry:
    """An agent's instruments, published by a thread of its own.

    Use it in a `with`, or `close` it, or leave that to the interpreter's exit; a child of `multiprocessing` ends
    without running exit functions, so close it there.

    Args:
        agent: the name that all runs of this agent share: letters, digits, `_` and `-`.
        amqp_url: the broker; by default the settings'.
        settings: by default those of the environment and `busmon.toml`.
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
        confirmed: Callable[[bytes], None] = lambda _body: None,
    ) -> None:
        self.agent = word(agent, "agent")
        if settings is None:
            settings = all_settings.load({"amqp_url": amqp_url})
        elif amqp_url is not None:
            settings = replace(settings, amqp_url=amqp_url)
        self._settings = settings
        self._catalogue = _catalogue(self._settings.catalogue)
        self._series = Series(
            Shared(
                max_values=self._settings.publish_buffer_bytes // BYTES_PER_VALUE,
                resend_seconds=self._settings.presence_ttl_seconds / PRESENCE_SHARE,
            )
        )
        self._instruments: dict[str, tuple[_Definition, Instrument]] = {}
        self._closed: bool | None = None
        self._confirmed = confirmed
        self._sender = Sender(agent, self._series, self._settings, confirmed)
        _open.add(self)

    @property
    def source(self) -> str:
        """The name of this run of this process, never used again."""
        return self._sender.origin.source

    def counter(
        self, name: str, documentation: str = "", labelnames: Sequence[str] = (), *, domain: str = DEFAULT_DOMAIN
    ) -> Counter:
        """A counter; the same one each time it is asked for.

        Args:
            name: the metric; `_total` is added where it is missing.
            documentation: for readers of the code; what a scrape shows is the catalogue's help.
            labelnames: in the order in which `labels` takes their values.
            domain: the second word of the routing key, so that an operator can bind a part of the telemetry: task,
                queue, system, business, error, lifecycle, or a word of your own. Each domain in use costs an envelope
                an interval.

        Raises:
            ValueError: the catalogue or an earlier definition says otherwise, or a name isn't accepted.
        """
        table = self._table(name, COUNTER, labelnames, domain)
        return self._only(Counter, table, documentation, Sum)

    def gauge(
        self, name: str, documentation: str = "", labelnames: Sequence[str] = (), *, domain: str = DEFAULT_DOMAIN
    ) -> Gauge:
        """A gauge; arguments and errors as for `counter`."""
        table = self._table(name, GAUGE, labelnames, domain)
        if table.op == "add":
            return self._only(AccumulatingGauge, table, documentation, Sum)
        return self._only(Gauge, table, documentation, Held)

    def histogram(
        self,
        name: str,
        documentation: str = "",
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float] | None = None,
        domain: str = DEFAULT_DOMAIN,
    ) -> Histogram:
        """A histogram; arguments and errors as for `counter`.

        `buckets` are ascending upper bounds, the catalogue's among them; by default they are the catalogue's. A metric
        that it doesn't name gets those of its first sample that the fleet sees, or prometheus_client's default ones.
        """
        table = self._table(name, HISTOGRAM, labelnames, domain)
        bounds = self._bounds(table, buckets)
        if not bounds:
            return self._only(Histogram, table, documentation, Values)
        make = partial(Distribution, bounds=bounds, are_agreed=table.type is None)
        return self._only(Histogram, table, documentation, make, bounds)

    def summary(
        self, name: str, documentation: str = "", labelnames: Sequence[str] = (), *, domain: str = DEFAULT_DOMAIN
    ) -> Summary:
        """A summary; arguments and errors as for `counter`."""
        table = self._table(name, SUMMARY, labelnames, domain)
        return self._only(Summary, table, documentation, Values)

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
            self._closed = self._sender.close(timeout)
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _renew(self) -> None:
        """Go on in a forked child, where the parent's thread doesn't exist.

        The parent's connection is left open: closing it would take leave of the broker in the parent's name.
        """
        self._series.reset()
        self._sender = Sender(self.agent, self._series, self._settings, self._confirmed)

    def _table(self, name: str, type_: str, labelnames: Sequence[str], domain: str) -> Table:
        name = full_name(self._catalogue, name, type_)
        family = family_of(self._catalogue, name, type_, labelnames)
        stated = None if name in self._catalogue.families else type_
        return Table(name, tuple(labelnames), stated, op_of(family), word(domain, "domain"))

    def _bounds(self, table: Table, buckets: Sequence[float] | None) -> tuple[float, ...]:
        family = self._catalogue.families.get(table.name)
        agreed = family.buckets if family else ()
        if buckets is None:
            return agreed
        bounds = tuple(bound for bound in map(float, buckets) if bound != inf)
        if not bounds or any(not low < high for low, high in zip(bounds, (*bounds[1:], inf), strict=True)):
            raise ValueError(f"{table.name}: buckets are finite numbers in ascending order, each once")
        if not {*agreed} <= {*bounds}:
            raise ValueError(f"{table.name}: by the catalogue its buckets are {', '.join(map(str, agreed))}")
        return bounds

    def _only(
        self,
        kind: type[InstrumentT],
        table: Table,
        documentation: str,
        make: Callable[[Shared], Pending],
        bounds: tuple[float, ...] = (),
    ) -> InstrumentT:
        """The instrument of this name, made unless it exists."""
        definition = _Definition(kind, table.labelnames, table.domain, bounds)
        if table.name not in self._instruments:
            made = kind(table, documentation, self._series, make, None if table.labelnames else ())
            self._instruments.setdefault(table.name, (definition, made))
        known, instrument = self._instruments[table.name]
        if known != definition or not isinstance(instrument, kind):
            raise ValueError(f"{table.name}: is defined already, with another type, labels, buckets or domain")
        return instrument


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
