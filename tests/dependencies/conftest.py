"""The servers, one of each for the tests of an xdist worker; a test that stops its server starts it again."""

from collections.abc import Iterator

import pytest

from .servers import Postgres, Redis


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server
