"""The exporter under connections that are opened, held and repeated without end: each scrape is answered meanwhile."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from busmon.exporter.server.server import MAX_CONNECTIONS, MAX_WAITING
from tests.patience import wait_until

from .exporting import exporter, get, with_series
from .flood import Attack, Flood

COUNT = 900
OTHER_DESCRIPTORS = 32
SCRAPES = 3
SMALL = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n"
LARGE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
ATTACKS = {
    "silent": Attack(b""),
    "half requests": Attack(b"GET /metrics HTTP/1.1\r\nHalf-A"),
    "heads as large as may be": Attack(b"GET /metrics HTTP/1.1\r\nX: " + b"a" * 16_000),
    "heads without end": Attack(b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 10, repeats=True),
    "requests ahead": Attack(SMALL * 100, repeats=True),
    "requests ahead that nobody reads": Attack(LARGE * 100, repeats=True, reads=False),
    "one request after the other": Attack(SMALL),
}
FEW = 160


@pytest.fixture(scope="module")
def registry_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_series(tmp_path_factory.mktemp("flooded") / "registry", 1000)


class Served(NamedTuple):
    """An exporter, the number of a flood's connections, and the most descriptors that it may have meanwhile."""

    pid: int
    port: int
    connections: int
    descriptors: int


@pytest.fixture(scope="module", params=[0, FEW], ids=["many descriptors", "few"])
def served(registry_dir: Path, request: pytest.FixtureRequest) -> Iterator[Served]:
    with exporter(registry_dir, descriptors=request.param) as (process, port):
        if request.param:
            yield Served(process.pid, port, FEW, FEW)
        else:
            yield Served(process.pid, port, COUNT, MAX_CONNECTIONS + MAX_WAITING + OTHER_DESCRIPTORS)


@pytest.mark.parametrize("attack", ATTACKS)
def test_each_scrape_is_answered_while_the_flood_goes_on(served: Served, attack: str) -> None:
    with Flood(served.port, served.connections, ATTACKS[attack]) as flood:
        for _ in range(SCRAPES):
            wait_until(partial(flood.has_lost, flood.ended), "a connection of the flood to be ended")
            status, page = get(served.port, "/metrics")
            assert (status, page.count(b"tasks_processed_total{")) == (200, 1000)
            assert len([*Path(f"/proc/{served.pid}/fd").iterdir()]) < served.descriptors
