import pytest

from tests.stack import coverage
from tests.stack.known_metrics import known


def test_at_least_95_percent_of_the_critical_paths_are_watched() -> None:
    assert coverage.share(coverage.watched()) >= 0.95


def test_the_page_is_what_would_be_written() -> None:
    assert coverage.PAGE.read_text() == coverage.page()


@pytest.mark.parametrize("path", coverage.PATHS)
def test_what_watches_a_path_is_a_metric_that_there_is(path: str) -> None:
    assert set(coverage.PATHS[path]) <= set(known())
