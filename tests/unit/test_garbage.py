import gc
import weakref
from collections.abc import Iterator

import pytest

from busmon.garbage import PermanentTables


class Cycle:
    """An object that reference counts don't free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    """Leave the collector as it was."""
    yield
    gc.unfreeze()
    gc.enable()


def is_traversed(sought: object) -> bool:
    return any(known is sought for known in gc.get_objects())


def test_tables_that_were_filled_are_passed_over() -> None:
    tables, series = PermanentTables(), Cycle()
    tables.begin()
    assert not gc.isenabled()
    tables.settle(1)
    assert gc.isenabled()
    assert not is_traversed(series)


@pytest.mark.parametrize(("size", "larger"), [(0, 10_000), (1_000, 11_000), (40_000, 50_000), (100_000, 125_000)])
def test_tables_that_grew_much_are_passed_over(size: int, larger: int) -> None:
    tables = PermanentTables()
    tables.begin()
    tables.settle(size)
    series = Cycle()
    tables.settle(larger - 1)
    assert is_traversed(series)
    tables.settle(larger)
    assert not is_traversed(series)
    later = Cycle()
    tables.settle(larger)
    assert is_traversed(later)


def test_garbage_is_collected_before_tables_become_permanent() -> None:
    tables = PermanentTables()
    garbage = weakref.ref(Cycle())
    tables.settle(10_000)
    assert garbage() is None


def test_garbage_among_permanent_objects_is_collected_when_the_tables_begin_again() -> None:
    tables, connection = PermanentTables(), Cycle()
    tables.begin()
    tables.settle(1)
    left = weakref.ref(connection)
    del connection
    gc.collect()
    assert left() is not None
    tables.begin()
    assert left() is None


def test_tables_that_begin_again_count_from_zero() -> None:
    tables = PermanentTables()
    for size in (1_000_000, 10):
        tables.begin()
        tables.settle(size)
    series = Cycle()
    tables.settle(10_010)
    assert not is_traversed(series)
