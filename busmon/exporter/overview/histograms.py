"""Histograms as the overview reads them: what grew between two collections, sums, and quantiles.

Pure. Counts are cumulative, as an exposition has them.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import chain

Buckets = Sequence[tuple[float, float]]
"""A histogram: upper bounds, ascending, the last one +Inf, with cumulative counts."""


def growth(before: Buckets, after: Buckets) -> Buckets:
    """Compute the histogram of the observations between two collections.

    Counts that fell began again at 0, so the present count is the growth, as in Prometheus' `increase`.
    """
    counted = dict(before)
    if any(count < counted.get(bound, 0.0) for bound, count in after):
        return after
    return [(bound, count - counted.get(bound, 0.0)) for bound, count in after]


def together(histograms: Iterable[Buckets]) -> Buckets:
    """Add histograms up."""
    counts: dict[float, float] = {}
    for bound, count in chain.from_iterable(histograms):
        counts[bound] = counts.get(bound, 0.0) + count
    return sorted(counts.items())


def quantile(q: float, buckets: Buckets) -> float | None:
    """Interpolate the q-quantile of a histogram as Prometheus' `histogram_quantile` does; None of an empty one.

    The rank is q * count; the bucket is the first whose cumulative count reaches it, and within it observations count
    as evenly spread: lower + (upper - lower) * (rank - below) / (cumulative - below). The first bucket begins at 0; a
    rank in the last one, to +Inf, gives that bucket's lower bound, the most that is known.
    """
    if not buckets or buckets[-1][1] <= 0:
        return None
    rank = q * buckets[-1][1]
    lower, below = 0.0, 0.0
    for upper, cumulative in buckets:
        if cumulative >= rank and cumulative > below:
            return lower if math.isinf(upper) else lower + (upper - lower) * (rank - below) / (cumulative - below)
        lower, below = upper, cumulative
    return lower
