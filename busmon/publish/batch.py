"""Rows → envelopes: which table a row goes to, which envelope a table goes to, and how large an envelope gets.

An envelope holds one domain, so that its routing key says what is in it. Pure; any thread.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from busmon.wire import json_v1

MAX_NUMBERS = 1000
"""Numbers in one envelope: rows, and each observation of a row that lists them."""

MAX_BYTES = 256 * 1024

DEFAULT_DOMAIN = "telemetry"
LIFECYCLE = "lifecycle"


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The common part of an instrument's rows; equal only to itself, so that a million rows hash it cheaply.

    Attributes:
        type: stated for a metric that the catalogue doesn't name; else None.
        op: a gauge's, `set` or `add`; else None.
        outlives_source: stated for a gauge that the catalogue doesn't name, and whose value stays after its process.
        domain: the second part of the routing key.
    """

    name: str
    labelnames: tuple[str, ...] = ()
    type: str | None = None
    op: str | None = None
    domain: str = DEFAULT_DOMAIN
    outlives_source: bool = False


class Row(NamedTuple):
    """One sample.

    Attributes:
        cell: a number, a list of observations, or counts by bucket with their sum.
        at: event time in seconds since the epoch; None for the envelope's.
        samples: what is lost if it is never published.
    """

    table: Table
    labelvalues: tuple[str, ...]
    cell: Any
    at: float | None = None
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """The publisher: `source` is one run of one process, `agent` the name that its runs share."""

    source: str
    agent: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """An envelope that is ready to be published.

    Attributes:
        samples: what is lost if it never is.
    """

    domain: str
    body: bytes
    samples: int


def seal(origin: Origin, ts: float, rows: Iterable[Row]) -> Iterator[Sealed]:
    """Make the envelopes of these rows; `ts` is the present, in seconds since the epoch."""
    by_domain = sorted(rows, key=lambda row: row.table.domain)
    for domain, of_domain in groupby(by_domain, key=lambda row: row.table.domain):
        for batch in _batches(_split(of_domain)):
            yield from _seal(origin, ts, domain, batch)


def heartbeat(origin: Origin, ts: float) -> Sealed:
    """Make an envelope without samples: the source lives."""
    return Sealed(LIFECYCLE, json_v1.encode(origin.source, origin.agent, ts, [], []), 0)


def farewell(origin: Origin, ts: float) -> Sealed:
    """Make an envelope without samples: the source stops."""
    return Sealed(LIFECYCLE, json_v1.encode_final(origin.source, origin.agent, ts), 0)


def _split(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the same rows, with a long list of observations split into several."""
    for row in rows:
        if type(row.cell) is list and len(row.cell) > MAX_NUMBERS:
            for start in range(0, len(row.cell), MAX_NUMBERS):
                yield row._replace(cell=row.cell[start : start + MAX_NUMBERS])
        else:
            yield row


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    numbers = 0
    for row in rows:
        count = len(row.cell) if type(row.cell) is list else 1
        if numbers + count > MAX_NUMBERS:
            yield batch
            batch, numbers = [], 0
        batch.append(row)
        numbers += count
    if batch:
        yield batch


def _seal(origin: Origin, ts: float, domain: str, batch: Sequence[Row]) -> Iterator[Sealed]:
    body = json_v1.encode(origin.source, origin.agent, ts, [], list(_tables(batch)))
    if len(body) <= MAX_BYTES or len(batch) == 1:
        yield Sealed(domain, body, sum(row.samples for row in batch))
        return
    middle = len(batch) // 2
    yield from _seal(origin, ts, domain, batch[:middle])
    yield from _seal(origin, ts, domain, batch[middle:])


def _tables(batch: Iterable[Row]) -> Iterator[dict[str, Any]]:
    grouped: dict[tuple[Table, float | None], list[list[Any]]] = {}
    for row in batch:
        grouped.setdefault((row.table, row.at), []).append([*row.labelvalues, row.cell])
    for (table, at), rows in grouped.items():
        stated = {"type": table.type, "op": table.op, "outlives_source": table.outlives_source or None, "ts": at}
        given = {key: value for key, value in stated.items() if value is not None}
        yield {"name": table.name, **given, "labels": table.labelnames, "rows": rows}
