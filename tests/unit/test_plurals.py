import pytest

from busmon.plurals import age, ago, format_count


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
        (59.0, "59 s", "59 s ago"),
        (60.0, "1m 0s", "60 s ago"),
        (156.0, "2m 36s", "2m 36s ago"),
        (11_100.0, "3h 5m", "3h 5m ago"),
        (95_979_401.0, "1110d 20h", "1110d 20h ago"),
    ],
)
def test_an_age_is_said_in_its_two_largest_units(seconds: float, said: str, said_ago: str) -> None:
    assert (age(seconds), ago(seconds)) == (said, said_ago)
