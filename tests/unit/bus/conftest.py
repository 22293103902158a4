"""A loop of pika's, for what runs on one without a connection."""

from collections.abc import Iterator

import pytest
from pika.adapters.select_connection import IOLoop


@pytest.fixture
def ioloop() -> Iterator[IOLoop]:
    ioloop = IOLoop()
    yield ioloop
    ioloop.close()
