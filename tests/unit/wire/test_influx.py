"""Influx lines: where one ends, what a quote is, and what becomes of a body that is wrong in one place."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from busmon.errors import EnvelopeError
from busmon.wire.arrival import Arrival
from busmon.wire.formats import DECODERS
from busmon.wire.influx_lines import lines

from .folded import Folded


@pytest.fixture
def influx(tmp_path: Path) -> Iterator[Folded]:
    opened = Folded(tmp_path, "influx")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("a b=1\na c=2", ["a b=1", "a c=2"]),
        ("a b=1\r\na c=2\r\n", ["a b=1", "a c=2"]),
        ("\ufeffa b=1\n\u200b\u00a0 a c=2 \0\n", ["a b=1", "a c=2"]),
        ('a b="x\ny",c=2\nd e=1', ['a b="x\ny",c=2', "d e=1"]),
        ('a b="x\r\n\r\ny",c="\n"\r\nd e=1', ['a b="x\r\n\r\ny",c="\n"', "d e=1"]),
        (r'a b="x\"' + "\nforged n=7i\n" + r'\\",c=2' + "\nd e=1", ['a b="x\\"\nforged n=7i\n\\\\",c=2', "d e=1"]),
        ('a,t="x b=1\nd,t=y" e=1', ['a,t="x b=1', 'd,t=y" e=1']),
        ('a"b c=1\nd e=1', ['a"b c=1', "d e=1"]),
        ('a "b"=1\nd e=1', ['a "b"=1', "d e=1"]),
        ('a b=1,"c=2\nd e=1', ['a b=1,"c=2', "d e=1"]),
        ('a b="x\nd e=1\nf g=1', ['a b="x\nd e=1\nf g=1']),
        ('a b="x\\', ['a b="x\\']),
        ("a\\\nb c=1", ["a\\", "b c=1"]),
        ('# don\'t "quote\na b=1\n  # nor "here\na c=2', ["a b=1", "a c=2"]),
        ("\n \n\t\r\n", []),
    ],
)
def test_a_line_ends_at_a_line_break_outside_of_a_quoted_text(body: str, found: list[str]) -> None:
    assert [*lines(body)] == found


@pytest.mark.parametrize(
    "body",
    [
        'log msg="x\nforged n=7i\n",level=3i 1700000000000000000\n',
        'log msg="x\r\nforged n=7i\r\n",level=3i\r\n',
        'log level=3i,msg="x\nforged n=7i"',
        'log msg="a",level=3i,other="x\nforged n=7i\n"',
        'log msg="say \\"hi\nforged n=7i\n",level=3i\n',
        'log msg="ends in a backslash\\\\",level=3i,other="\nforged n=7i\n"\n',
        'log,t="q msg="x\nforged n=7i\n",level=3i\n',
        'log msg="# x\n# forged n=7i\nforged n=7i",level=3i\n',
    ],
)
def test_who_writes_a_text_cannot_write_a_line(body: str, influx: Folded) -> None:
    influx.take(f"before value=1\n{body}\nafter value=2".encode())
    assert influx.value("forged_n") is None
    assert influx.value("before") == 1
    assert influx.value("after") == 2
    assert 3.0 in {influx.value("log_level"), influx.value("log_level", t='"q')}
    assert influx.rejected() == {}


@pytest.mark.parametrize(
    "body",
    [
        'log msg="x\nforged n=7i\n',
        'log bad tag,x="\nforged n=7i\n"',
        'log,bad msg="x\nforged n=7i\n",level=3i',
        'log msg=x"y\nforged n=7i\n"',
        'log msg="x\nforged n=7i\n" notime',
        ',log msg="x\nforged n=7i\n"',
        'log level=,msg="x\nforged n=7i\n"',
    ],
)
def test_a_bad_line_takes_its_texts_with_it(body: str, influx: Folded) -> None:
    influx.take(f"before value=1\n{body}".encode())
    assert influx.value("before") == 1
    assert influx.value("forged_n") is None
    assert sum(influx.rejected().values()) == 1


def test_a_text_that_is_never_closed_is_named_as_such() -> None:
    with pytest.raises(EnvelopeError, match="a quoted text is not closed"):
        DECODERS["influx"](Arrival(b'a b="x\nc d=1\n', None, None, 1000))


def test_a_field_that_cannot_be_counted_costs_itself_alone(influx: Folded) -> None:
    influx.take(b"cpu,host=a idle=98.5,steal=NaN,user=oops,ok=true 1700000000000000000")
    assert influx.value("cpu_idle", host="a") == 98.5
    assert influx.value("cpu_ok", host="a") == 1
    assert influx.rejected() == {"non_finite": 1, "invalid_value": 1}


def test_quotes_in_a_measurement_a_tag_or_a_key_are_characters(influx: Folded) -> None:
    influx.take(b'"m",t="a\\ b" "f"=1,g=2')
    assert influx.value("_m___f_", t='"a b"') == 1
    assert influx.value("_m__g", t='"a b"') == 2


def test_names_are_without_what_nobody_sees(influx: Folded) -> None:
    body = "\ufeffcpu,ho\u200bst=a idle=1\r\n\u00a0cpu,host=a us\u200ber=2\r\n\tcpu,host=a\u200b  sys=3\r\n"
    influx.take(body.encode())
    assert influx.value("cpu_idle", host="a") == 1
    assert influx.value("cpu_user", host="a") == 2
    assert influx.value("cpu_sys", host="a\u200b") == 3


def test_of_readings_without_a_time_the_last_in_the_body_counts(influx: Folded) -> None:
    influx.take(b"m value=5\nm value=3\n")
    assert influx.value("m") == 3


def test_a_batch_of_many_lines_is_taken_whole(influx: Folded) -> None:
    batch = "\n".join(f'm,n={n} v={n},text="line {n}\nforged v=1" {1_700_000_000_000_000_000 + n}' for n in range(100))
    influx.take(batch.encode())
    assert [influx.value("m_v", n=str(n)) for n in range(100)] == [float(n) for n in range(100)]
    assert influx.value("forged_v") is None


def test_a_body_of_texts_alone_is_no_fault_of_its_publisher() -> None:
    envelope = DECODERS["influx"](Arrival(b'log msg="x\ny" 1700000000000000000', None, None, 1000))
    assert [*envelope.parts[0].points] == []


SIZE = (1 << 20) - 100


@pytest.mark.parametrize(
    "body",
    [
        b"a " + b'="' * (SIZE // 2),
        b'a b="' + b"\\" * SIZE,
        b'a b="' + b"x" * SIZE,
        b"a," + b"b=" * (SIZE // 2),
        b"a" + b"\\," * (SIZE // 2),
        b"a" + b",b=c" * (SIZE // 4),
        b"a b" + b"=" * SIZE,
        b'"' * SIZE,
        b'a b="\n' * (SIZE // 6 | 1),
        b"a b=1" + b" " * SIZE + b"x",
    ],
    ids=["quotes", "backslashes", "text", "tags", "escapes", "good tags", "equals", "names", "open", "blanks"],
)
def test_a_line_as_long_as_a_body_is_known_in_one_pass_to_be_none(body: bytes) -> None:
    with pytest.raises(EnvelopeError, match="invalid_influx"):
        DECODERS["influx"](Arrival(body, None, None, 1 << 20))
