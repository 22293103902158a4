"""Fields are told apart as pika tells them apart, whatever their kinds, and stay as they are."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pika.data import decode_table

from busmon.bus.frames.table import encode_fields, keep, leave_out, read_fields

VALUES = {
    "t": b"\1",
    "b": b"\xff",
    "B": b"\xff",
    "s": b"\0\2",
    "U": b"\0\2",
    "u": b"\0\2",
    "I": b"\0\0\0\3",
    "i": b"\0\0\0\3",
    "l": b"\0" * 7 + b"\4",
    "L": b"\0" * 7 + b"\4",
    "f": struct.pack(">f", 1.0),
    "d": struct.pack(">d", 1.0),
    "D": b"\1\0\0\0\5",
    "T": b"\0" * 7 + b"\6",
    "S": b"\0\0\0\2no",
    "x": b"\0\0\0\2no",
    "A": b"\0\0\0\2t\1",
    "F": b"\0\0\0\4\1at\1",
    "V": b"",
}
NAMES = ("a", "source", "é", "")


def field(name: str, kind: str) -> bytes:
    encoded = name.encode()
    return bytes([len(encoded)]) + encoded + kind.encode() + VALUES[kind]


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(VALUES)))), st.sets(st.sampled_from(NAMES)))
def test_fields_of_every_kind_are_chosen_by_their_names(stated: list[tuple[str, str]], names: set[str]) -> None:
    fields = b"".join(field(*each) for each in stated)
    decoded, _ = decode_table(struct.pack(">I", len(fields)) + fields, 0)
    assert keep(names, fields) == b"".join(field(*each) for each in stated if each[0] in names)
    assert leave_out(names, fields) == b"".join(field(*each) for each in stated if each[0] not in names)
    assert read_fields(fields, names) == {name: value for name, value in decoded.items() if name in names}


def test_a_value_that_cannot_be_decoded_hides_no_other() -> None:
    beyond = b"\4timeT" + struct.pack(">Q", 1 << 40)
    fields = beyond + encode_fields({"source": "a"})
    assert read_fields(fields, {"time", "source"}) == {"time": None, "source": "a"}


@pytest.mark.parametrize("cut", [b"\1aS\0\0\0\5no", b"\1a?", b"\5a", b"\1aI\0", b"\1aS\0"])
def test_of_bytes_that_are_no_fields_nothing_is_kept(cut: bytes) -> None:
    fields = encode_fields({"source": "a"}) + cut
    assert keep({"source"}, fields) == leave_out({"other"}, fields) == b""
    assert read_fields(fields, {"source"}) == {}
