from typing import Any

import pytest
from pika import BasicProperties

from busmon.bus.operator.quarantined import Quarantined, read_quarantined
from busmon.cli.quarantine_text import page, row, table
from busmon.printable import escape

WHY = {"reason": "invalid_json", "agent": "a", "quarantined_at": "1763794800.5"}


def body(content: bytes = b"body", headers: Any = None, **properties: Any) -> Quarantined:
    return read_quarantined("a.task", BasicProperties(headers={**WHY, **(headers or {})}, **properties), content)


def shown(content: bytes, max_bytes: int = 4096) -> str:
    return page(body(content), max_bytes).split("\n\n", 1)[1]


def test_nothing_of_a_body_reaches_the_terminal_but_printable_characters() -> None:
    hostile = "\x1b]0;owned\x07\r\n\u202e"
    found = body(hostile.encode(), {"agent": hostile, hostile: hostile, "reason": hostile}, message_id=hostile)
    text = table([row(found)], 1) + page(found, 4096)
    assert all(line.isprintable() for line in text.split("\n"))
    assert r"\x1b]0;owned\x07\r\n\u202e" in text


def test_columns_are_as_wide_as_they_have_to_be() -> None:
    lines = table([row(body(message_id="a:1")), row(body(message_id="a-long-name:2"))], 7).split("\n")
    assert len({line.index("invalid_json") for line in lines[1:3]}) == 1
    assert lines[-1] == "2 of 7"


@pytest.mark.parametrize("moment", ["nan", "inf", "-1e300", "1e300", "?"])
def test_a_moment_that_no_calendar_has_is_left_blank(moment: str) -> None:
    lines = table([row(body(headers={"quarantined_at": moment}))], 1).split("\n")
    assert lines[1].split() == ["230d8358dc8e", "invalid_json", "a", "a.task", "4"]


def test_text_is_shown_as_text() -> None:
    assert shown('{"ä":\n\t1}'.encode()) == '{"ä":\n\t1}'


def test_a_character_that_the_limit_cuts_does_not_make_it_bytes() -> None:
    assert shown("ää".encode(), 3) == "ä\n… and 1 bytes more"


def test_bytes_are_shown_as_digits() -> None:
    assert shown(b"\x00AB\xff" + bytes(13)) == (
        "00000000  00 41 42 ff 00 00 00 00 00 00 00 00 00 00 00 00  .AB............."
        "\n00000010  00                                               ."
    )


def test_an_empty_body_is_shown_empty() -> None:
    assert shown(b"") == ""


def test_a_header_that_is_no_text_is_shown_too() -> None:
    assert "header count           3\n" in page(body(headers={"count": 3}), 10)


def test_printable_text_is_left_as_it_is() -> None:
    assert escape("agent-1:ä→") == "agent-1:ä→"
