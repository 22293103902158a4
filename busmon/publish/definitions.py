"""The instruments of one agent, by name: each is made once, as the catalogue and its first definition have it.

An invalid definition raises when it is made, before anything is sent. Any thread.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import inf
from typing import TypeVar

from busmon.catalogue import Catalogue
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM, SUMMARY
from busmon.publish.batch import DEFAULT_DOMAIN, Table
from busmon.publish.contract import family_of, full_name, op_of, word
from busmon.publish.instruments import (
    AccumulatingGauge,
    CountedHistogram,
    Counter,
    Gauge,
    Histogram,
    Instrument,
    Summary,
    make_sampled_histogram,
)
from busmon.publish.pending import Counts, Distribution, Held, Lasting, Pending, Shared, Sum, Values
from busmon.publish.series import Series

InstrumentT = TypeVar("InstrumentT", bound=Instrument)


@dataclass(frozen=True, slots=True)
class _Definition:
    """The definition that a second instrument of one name must equal."""

    kind: type[Instrument]
    labelnames: tuple[str, ...]
    domain: str
    bounds: tuple[float, ...] = ()
    outlives_source: bool = False


class Definitions:
    """Makes instruments.

    Args:
        catalogue: what may be published, and how.
        series: where the instruments' series are added.
    """

    def __init__(self, catalogue: Catalogue, series: Series) -> None:
        self._catalogue = catalogue
        self._series = series
        self._instruments: dict[str, tuple[_Definition, Instrument]] = {}

    def counter(
        self, name: str, documentation: str = "", labelnames: Sequence[str] = (), *, domain: str = DEFAULT_DOMAIN
    ) -> Counter:
        """Return a counter; the same one for each call.

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
        self,
        name: str,
        documentation: str = "",
        labelnames: Sequence[str] = (),
        *,
        outlives_source: bool = False,
        domain: str = DEFAULT_DOMAIN,
    ) -> Gauge:
        """Make a gauge; arguments and errors as for `counter`.

        A gauge leaves the scrape with its process, unless it `outlives_source`: then its last value stays until any
        process sets a later one. State it for what is read after the process has ended, such as the result of a job. A
        metric that the catalogue names is as the catalogue says.
        """
        table = self._table(name, GAUGE, labelnames, domain, outlives_source=outlives_source)
        if table.op == "add":
            return self._only(AccumulatingGauge, table, documentation, Sum)
        family = self._catalogue.families.get(table.name)
        stays = family.outlives_source if family else outlives_source
        return self._only(Gauge, table, documentation, Lasting if stays else Held)

    def histogram(  # noqa: PLR0913 - prometheus_client's, and two of our own
        self,
        name: str,
        documentation: str = "",
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float] | None = None,
        one_in: int = 1,
        domain: str = DEFAULT_DOMAIN,
    ) -> Histogram:
        """Return a histogram; arguments and errors as for `counter`.

        Of `one_in` observations one is taken, by chance, and stands for as many: counts and sum are scaled. For what is
        observed so often that each call counts; `buckets` must then be known.

        `buckets` are ascending upper bounds, the catalogue's among them; by default they are the catalogue's. A metric
        that it doesn't name gets those of its first sample that the fleet sees, or prometheus_client's default ones.
        `[math.inf]` alone gives a histogram of one bucket: count and sum.
        """
        table = self._table(name, HISTOGRAM, labelnames, domain)
        bounds = self._bounds(table, buckets)
        is_bounded = bool(bounds or buckets)
        if one_in < 1 or (one_in > 1 and not is_bounded):
            raise ValueError(f"{table.name}: one_in is a whole number from 1, and needs buckets where it is more")
        if not is_bounded:
            return self._only(Histogram, table, documentation, Values)
        make = partial(Distribution, bounds=bounds, are_agreed=table.type is None, each_stands_for=one_in)
        return self._only(make_sampled_histogram(one_in), table, documentation, make, bounds)

    def summary(
        self, name: str, documentation: str = "", labelnames: Sequence[str] = (), *, domain: str = DEFAULT_DOMAIN
    ) -> Summary:
        """Return a summary; arguments and errors as for `counter`."""
        table = self._table(name, SUMMARY, labelnames, domain)
        return self._only(Summary, table, documentation, Values)

    def histogram_of_counts(
        self,
        name: str,
        documentation: str = "",
        labelnames: Sequence[str] = (),
        *,
        buckets: Sequence[float],
        domain: str = DEFAULT_DOMAIN,
    ) -> CountedHistogram:
        """Return a histogram of observations that are counted elsewhere; arguments and errors as for `histogram`."""
        table = self._table(name, HISTOGRAM, labelnames, domain)
        bounds = self._bounds(table, buckets)
        return self._only(CountedHistogram, table, documentation, partial(Counts, bounds=bounds), bounds)

    def _table(
        self, name: str, type_: str, labelnames: Sequence[str], domain: str, *, outlives_source: bool = False
    ) -> Table:
        name = full_name(self._catalogue, name, type_)
        family = family_of(self._catalogue, name, type_, labelnames, outlives_source=outlives_source)
        is_known = name in self._catalogue.families
        stated = None if is_known else type_
        stays = outlives_source and not is_known
        return Table(name, tuple(labelnames), stated, op_of(family), word(domain, "domain"), stays)

    def _bounds(self, table: Table, buckets: Sequence[float] | None) -> tuple[float, ...]:
        family = self._catalogue.families.get(table.name)
        agreed = family.buckets if family else ()
        if buckets is None:
            return agreed
        bounds = tuple(bound for bound in map(float, buckets) if bound != inf)
        if not buckets or any(not low < high for low, high in pairwise((*bounds, inf))):
            raise ValueError(f"{table.name}: buckets are numbers in ascending order, each once")
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
        """Return the instrument of this name; make it if it doesn't exist."""
        definition = _Definition(kind, table.labelnames, table.domain, bounds, table.outlives_source)
        if table.name not in self._instruments:
            made = kind(table, documentation, self._series, make, None if table.labelnames else ())
            self._instruments.setdefault(table.name, (definition, made))
        known, instrument = self._instruments[table.name]
        if known != definition or not isinstance(instrument, kind):
            raise ValueError(
                f"{table.name}: is defined already, with another type, labels, buckets, domain or lifetime"
            )
        return instrument
