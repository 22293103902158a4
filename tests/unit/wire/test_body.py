"""Bodies of lines: what stands around a line or inside of a name unseen is not part of it."""

import pytest

from busmon.wire.body import lines, visible


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa:1|c\nb:1|c",
        "a:1|c\n\ufeffb:1|c\n",
        "a:1|c\r\nb:1|c\r\n",
        "\u200ba:1|c\n\u00a0b:1|c\u00a0",
        " \ta:1|c\n\n \t\r\n  b:1|c  ",
        "a:1|c\nb:1|c\0\0",
        "a:1|c\nb:1|c\n\0",
    ],
    ids=["mark", "mark of a second file", "CRLF", "U+200B and NBSP", "indented", "NUL", "NUL on a line of its own"],
)
def test_lines_are_without_the_blanks_around_them(text: str) -> None:
    assert [*lines(text)] == ["a:1|c", "b:1|c"]


@pytest.mark.parametrize("name", ["hits", "hi\u200bts", "\ufeffhits", "hits\u2060 ", "\u00a0hits"])
def test_a_name_is_without_what_nobody_sees(name: str) -> None:
    assert visible(name) == "hits"


def test_letters_of_any_script_stay() -> None:
    assert visible("größe.水位") == "größe.水位"
