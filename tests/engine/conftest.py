from collections.abc import Iterator

import pytest

from tests.engine.engine import Engine, obstacle, running


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    if why := obstacle():
        pytest.skip(why)
    with running() as started:
        yield started
