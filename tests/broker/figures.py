"""The figures of a `Telemetry` that publishes nowhere, for tests of instruments in the process of the test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from busmon.publish import Telemetry
from busmon.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def silent_telemetry() -> Iterator[Telemetry]:
    """A `Telemetry` of the agent `analyzer` without a broker."""
    given = Settings(amqp_url="amqp://guest:guest@127.0.0.1:1/", publish_interval_seconds=3600, spool_bytes=0)
    telemetry = Telemetry("analyzer", settings=given, lifecycle=False)
    try:
        yield telemetry
    finally:
        telemetry.close(0.1)


def cells(telemetry: Telemetry) -> dict[tuple[str, ...], Any]:
    """Take all figures: counts by name and labels, and the list of observations of each histogram."""
    rows, _ = telemetry._series.take(1000.0)
    return {(row.table.name, *row.labelvalues): row.cell for row in rows}
