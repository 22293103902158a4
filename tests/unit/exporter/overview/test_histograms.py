import math
from collections.abc import Sequence

import pytest

from busmon.exporter.overview.histograms import growth, quantile

INF = math.inf


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        (0.5, [(1.0, 10), (2.0, 20), (INF, 20)], 1.0),
        (0.75, [(1.0, 10), (2.0, 20), (INF, 20)], 1.5),
        (0.25, [(1.0, 10), (2.0, 20), (INF, 20)], 0.5),
        (0.99, [(1.0, 0), (2.0, 100), (INF, 100)], 1.99),
        (0.99, [(1.0, 10), (2.0, 10), (INF, 20)], 2.0),
        (0.5, [(1.0, 0), (2.0, 0), (INF, 3)], 2.0),
        (0.5, [(1.0, 0), (INF, 0)], None),
        (0.5, [], None),
    ],
)
def test_a_quantile_is_what_histogram_quantile_gives(
    q: float, buckets: Sequence[tuple[float, float]], expected: float | None
) -> None:
    assert quantile(q, buckets) == (None if expected is None else pytest.approx(expected))


def test_growth_of_a_histogram_begun_anew_is_what_it_holds() -> None:
    assert growth([(1.0, 50), (INF, 60)], [(1.0, 2), (INF, 3)]) == [(1.0, 2), (INF, 3)]


def test_growth_of_a_histogram_that_just_appeared_is_what_it_holds() -> None:
    assert growth([], [(1.0, 2), (INF, 3)]) == [(1.0, 2), (INF, 3)]
