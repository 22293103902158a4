"""Quantiles against the exact ones and against DDSketch's own implementation; the window against the clock."""

from collections import Counter
from math import isnan

import pytest
from ddsketch import LogCollapsingLowestDenseDDSketch
from hypothesis import given
from hypothesis import strategies as st

from busmon.registry.series.sketch import (
    GREATEST,
    MAX_BINS,
    RELATIVE_ERROR,
    SMALLEST,
    WINDOW,
    SketchWindow,
    bin_of,
    quantile,
    value_of,
)
from tests.unit.registry.registries import NOW

ROUNDING = 1e-9

magnitudes = st.floats(SMALLEST, GREATEST)
values = magnitudes | magnitudes.map(lambda value: -value) | st.just(0.0)
ranks = st.floats(0, 1)


def covers(window: SketchWindow, start: float, now: float) -> bool:
    """Tell if the step that began at `start` lies in the window, at least in part."""
    earlier, last = window.bounds(now)
    return earlier < start <= last


def sketched(observed: list[float]) -> Counter[str]:
    return Counter(map(bin_of, observed))


@given(st.lists(values, min_size=1, max_size=200), ranks)
def test_a_quantile_is_at_most_one_percent_from_the_exact_one(observed: list[float], q: float) -> None:
    exact = sorted(observed)[int(q * (len(observed) - 1))]
    assert abs(quantile(sketched(observed), q) - exact) <= abs(exact) * (RELATIVE_ERROR + ROUNDING)


@given(st.lists(values, min_size=1, max_size=200), ranks)
def test_a_quantile_is_the_reference_implementations(observed: list[float], q: float) -> None:
    reference = LogCollapsingLowestDenseDDSketch(RELATIVE_ERROR, bin_limit=MAX_BINS)
    for value in observed:
        reference.add(value)
    expected = reference.get_quantile_value(q)
    assert expected is not None
    apart = abs(quantile(sketched(observed), q) - expected)
    # A value at the very border of two bins may round into either; both are at most one percent from it.
    assert apart <= abs(expected) * (2.1 * RELATIVE_ERROR)


@given(st.lists(values, max_size=50), st.lists(values, max_size=50), ranks)
def test_sketches_merge_by_addition(first: list[float], second: list[float], q: float) -> None:
    merged, together = quantile(sketched(first) + sketched(second), q), quantile(sketched(first + second), q)
    assert merged == together or (isnan(merged) and isnan(together))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**300), 10**300))
def test_bins_are_bounded_whatever_the_value(value: float) -> None:
    sign, index = bin_of(value)[0], bin_of(value)[1:]
    assert sign == ("z" if value == 0 else "p" if value > 0 else "n")
    assert not index or -1036 <= int(index) <= 1382
    assert value_of(bin_of(value)) * value >= 0


def test_there_are_as_many_bins_as_is_said() -> None:
    assert 2 * (int(bin_of(GREATEST)[1:]) - int(bin_of(SMALLEST)[1:]) + 1) + 1 == MAX_BINS


@pytest.mark.parametrize("counts", [{}, {"p1": 0.0}])
def test_the_quantile_of_nothing_is_no_number(counts: dict[str, float]) -> None:
    assert isnan(quantile(counts, 0.5))


@pytest.mark.parametrize("bin_", ["", "x1", "p", "1", "p1.5"])
def test_what_is_no_bin_has_no_value(bin_: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int's own words will do for a file that isn't ours
        value_of(bin_)


@given(st.floats(0, 4e9), st.floats(0, 1200))
def test_a_step_is_in_the_window_for_as_long_as_the_window_lasts(now: float, later: float) -> None:
    assert WINDOW.start(now) <= now < WINDOW.start(now) + WINDOW.step_seconds
    if later <= WINDOW.seconds:
        assert covers(WINDOW, WINDOW.start(now), now + later)
    if later >= WINDOW.seconds + WINDOW.step_seconds:
        assert not covers(WINDOW, WINDOW.start(now), now + later)


def test_no_two_steps_of_a_window_share_a_place() -> None:
    window = SketchWindow(60, 3)
    starts = [NOW + 20 * step for step in range(12)]
    for now in starts:
        covered = [start for start in starts if covers(window, start, now + 19)]
        assert len({window.slot(start) for start in covered}) == len(covered)
    assert {window.slot(start) for start in starts} == {0, 1, 2, 3}
