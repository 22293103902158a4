"""A time in text is read as RFC 3339 has it, in small letters, too."""

import pytest

from busmon.wire.times import rfc3339, seconds

AT = 1763802000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2025-11-22T09:00:00Z", AT),
        ("2025-11-22t09:00:00z", AT),
        ("2025-11-22 09:00:00Z", AT),
        ("2025-11-22T10:00:00+01:00", AT),
        ("2025-11-22t03:30:00-05:30", AT),
        ("2025-11-22T10:00:00+0100", AT),
        ("2025-11-22T09:00:00.5Z", AT + 0.5),
        ("2025-11-22T09:00:00.123456789Z", AT + 0.123456789),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("2024-02-29T00:00:00Z", 1709164800.0),
        ("1970-01-01T00:00:01Z", 1.0),
    ],
)
def test_a_time_is_told_in_seconds_since_the_epoch(text: str, expected: float) -> None:
    assert rfc3339(text) == seconds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "2025-11-22T09:00:00",
        "2025-11-22T09:00Z",
        "2025-11-22",
        "2025-02-29T09:00:00Z",
        "2025-11-22T09:00:61Z",
        "2025-11-22T24:00:00Z",
        "2025-11-22T09:00:00+24:00",
        "2025-11-22T09:00:00Z\n",
        "20251122T090000Z",
        "٢٠٢٥-11-22T09:00:00Z",
        "1969-12-31T23:59:59Z",
        "now",
        "1763802000",
    ],
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"time|day|hour"):
        seconds(text)


@pytest.mark.parametrize(
    "ts", [None, 0, 0.0, -0.0, "", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00", "1970-01-01T00:00:00Z"]
)
def test_a_zero_value_is_no_time(ts: object) -> None:
    assert seconds(ts) is None


@pytest.mark.parametrize("ts", [False, True, -1, float("nan"), float("inf"), [], {}, b"x"])
def test_no_other_value_is_a_time(ts: object) -> None:
    with pytest.raises(ValueError, match="time"):
        seconds(ts)
