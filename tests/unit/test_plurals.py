import math

import pytest

from busmon.plurals import age, ago, duration, format_count


@pytest.mark.parametrize(
    ("number", "noun", "said"),
    [
        (0, "body", "0 bodies"),
        (1, "body", "1 body"),
        (2, "body", "2 bodies"),
        (1234, "sample", "1,234 samples"),
        (1, "family", "1 family"),
    ],
)
def test_one_is_not_many(number: int, noun: str, said: str) -> None:
    assert format_count(number, noun) == said


@pytest.mark.parametrize(
    ("seconds", "said", "said_ago"),
    [
        (-3.0, "-3.0 s", "0 s ago"),
        (7.06, "7.1 s", "7 s ago"),
        (9.94, "9.9 s", "10 s ago"),
        (9.96, "10 s", "10 s ago"),
        (59.0, "59 s", "59 s ago"),
        (59.7, "1m 0s", "60 s ago"),
        (60.0, "1m 0s", "60 s ago"),
        (119.4, "1m 59s", "119 s ago"),
        (119.6, "2m 0s", "2m 0s ago"),
        (156.0, "2m 36s", "2m 36s ago"),
        (359.7, "6m 0s", "6m 0s ago"),
        (3599.6, "1h 0m", "1h 0m ago"),
        (7199.6, "2h 0m", "2h 0m ago"),
        (11_100.0, "3h 5m", "3h 5m ago"),
        (86_399.6, "1d 0h", "1d 0h ago"),
        (95_979_401.0, "1110d 20h", "1110d 20h ago"),
    ],
)
def test_an_age_is_said_in_its_two_largest_units(seconds: float, said: str, said_ago: str) -> None:
    assert (age(seconds), ago(seconds)) == (said, said_ago)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 ms"),
        (0.000_42, "0.42 ms"),
        (0.0123, "12.3 ms"),
        (0.999_4, "999 ms"),
        (0.999_6, "1 s"),
        (2.5, "2.5 s"),
        (59.4, "59.4 s"),
        (59.6, "1m 0s"),
        (1234.0, "20m 34s"),
        (-0.0123, "-12.3 ms"),
        (-3.0, "-3 s"),
    ],
)
def test_a_measured_time_has_three_digits_and_no_exponent(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said", "said_ago"),
    [(math.inf, "inf s", "inf s ago"), (-math.inf, "-inf s", "0 s ago"), (math.nan, "nan s", "nan s ago")],
)
def test_a_time_that_is_no_number_of_seconds_is_printed(seconds: float, said: str, said_ago: str) -> None:
    assert (age(seconds), duration(seconds), ago(seconds)) == (said, said, said_ago)


def test_no_age_has_sixty_of_a_unit_that_has_fewer() -> None:
    for tenths in range(40_000):
        assert "60s" not in age(tenths / 10)
        assert "60m" not in age(tenths * 9 / 10)
