"""A telemetry without a broker, and what it has gathered."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from busmon.publish import Telemetry
from busmon.settings import Settings

Cells = Callable[[], dict[tuple[str, ...], Any]]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    given = Settings(amqp_url="amqp://guest:guest@127.0.0.1:1/", publish_interval_seconds=3600, spool_bytes=0)
    telemetry = Telemetry("analyzer", settings=given, lifecycle=False)
    yield telemetry
    telemetry.close(0.1)


@pytest.fixture
def cells(telemetry: Telemetry) -> Cells:
    """Take the cells gathered since the last time, by name and label values."""

    def take() -> dict[tuple[str, ...], Any]:
        rows, _ = telemetry._series.take(1000.0)
        return {(row.table.name, *row.labelvalues): row.cell for row in rows}

    return take
