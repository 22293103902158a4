"""The exporter under a crowd of one address that asks for a large page: others are answered before the crowd is."""

import http.client
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.patience import wait_until

from .exporting import SECONDS, exporter, with_series

COUNT = 900
FEW = 160
SERIES = 40_000
CROWD, SCRAPER = "127.0.0.1", "127.0.0.2"
LARGE = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(scope="module")
def registry_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_series(tmp_path_factory.mktemp("crowd") / "registry", SERIES)


@contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections that ask and don't read."""
    with ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((CROWD, port))) for _ in range(count)]
        for connection in connections:
            with suppress(ConnectionError):  # it is closed already
                connection.sendall(LARGE)
        yield connections


def scrape(port: int) -> tuple[int, bytes]:
    """Ask from the other address."""
    connection = http.client.HTTPConnection(CROWD, port, timeout=SECONDS, source_address=(SCRAPER, 0))
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def count_noticed(connections: list[socket.socket]) -> int:
    """Count the connections to which the exporter has sent something, the end included."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(0))


def test_another_address_is_answered_before_the_crowd_has_begun_to_be(registry_dir: Path) -> None:
    with exporter(registry_dir) as (_, port), crowd(port, COUNT) as connections:
        status, page = scrape(port)
        assert count_noticed(connections) < COUNT
        assert (status, page.count(b"tasks_processed_total{")) == (200, SERIES)


def test_where_descriptors_are_few_newcomers_of_the_crowd_are_closed_and_another_address_is_answered(
    registry_dir: Path,
) -> None:
    with exporter(registry_dir, descriptors=FEW) as (process, port):
        scrape(port)
        with crowd(port, FEW) as connections:
            status, page = scrape(port)
            wait_until(lambda: count_noticed(connections) >= FEW - 2 * 16, "newcomers of the crowd to be closed")
            assert len([*Path(f"/proc/{process.pid}/fd").iterdir()]) < FEW
        assert (status, page.count(b"tasks_processed_total{")) == (200, SERIES)
