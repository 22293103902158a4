import pytest

from busmon.plurals import counted


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
    assert counted(number, noun) == said
