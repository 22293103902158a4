"""The decoder takes what is an envelope, refuses what is none with a constant word, and takes bounded memory."""

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon.errors import EnvelopeError
from busmon.wire.envelope import Envelope
from busmon.wire.json_v1 import decode, encode, encode_final
from busmon.wire.times import seconds

from .envelopes import ENVELOPES, Case, broken_envelopes, valid_envelopes

MAX_BYTES = 1 << 20
BODY = b'{"v": 1, "source": "s", "agent": "a", "ts": 5, "samples": [{"name": "nodes", "value": 1}]}'
ENVELOPE = Envelope("s", "a", 5, [{"name": "nodes", "value": 1}], [])


def refusal(body: bytes, content_type: str | None = None, content_encoding: str | None = None) -> str:
    """The reason for which a body is refused."""
    with pytest.raises(EnvelopeError) as refused:
        decode(body, content_type, content_encoding, MAX_BYTES)
    assert str(refused.value).startswith(f"{refused.value.reason}: ")
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300
    return refused.value.reason


# -- what is an envelope -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ENVELOPES, ids=lambda case: case.name)
def test_an_envelope_is_told_from_what_is_none(case: Case) -> None:
    body = json.dumps(case.document).encode()
    if case.valid:
        assert decode(body, None, None, MAX_BYTES).source == case.document["source"]
    else:
        assert refusal(body) in {"version", "invalid_envelope"}


@given(valid_envelopes)
def test_every_form_of_envelope_is_decoded_as_it_stands(document: dict[str, Any]) -> None:
    decoded = decode(json.dumps(document).encode(), None, None, MAX_BYTES)
    assert decoded.source == document["source"]
    assert decoded.agent == document.get("agent", "unknown")
    assert decoded.ts == seconds(document.get("ts"))
    assert decoded.samples == document["samples"]
    assert decoded.tables == document.get("tables", [])


def test_a_sources_last_envelope_says_so() -> None:
    assert decode(encode_final("s", "a", 5), None, None, MAX_BYTES) == Envelope("s", "a", 5, [], [], final=True)
    assert not decode(encode("s", "a", 5, [], []), None, None, MAX_BYTES).final


@given(broken_envelopes)
def test_one_wrong_member_spoils_an_envelope(document: dict[str, Any]) -> None:
    refusal(json.dumps(document).encode())


def test_what_is_encoded_is_decoded() -> None:
    tables = [{"name": "nodes", "type": "gauge", "labels": [], "rows": [[1]]}]
    assert decode(encode("s", "a", 5.5, [], tables), None, None, MAX_BYTES) == Envelope("s", "a", 5.5, [], tables)
    assert decode(encode("s", "a", 5.5, [1], tables), None, None, MAX_BYTES) == Envelope("s", "a", 5.5, [1], tables)


# -- what isn't JSON ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", range(1, len(BODY)))
def test_a_body_that_is_cut_off_is_no_json(cut: int) -> None:
    assert refusal(BODY[:cut]) == "invalid_json"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe{}",
        BODY + b"\xef\xbb\xbf",
        b"\0" + BODY,
        BODY + b"\0{}",
        BODY.replace(b'"s"', b'"\xff"'),
        BODY.replace(b'"s"', b'"\\ud800"'),
        BODY.replace(b'"nodes"', b'"\\udfff"'),
        BODY.replace(b"1}", b"0x1}"),
        BODY + BODY,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 100_000,
        BODY.replace(b": 1}", b": " + b"[" * 2000 + b"NaN" + b"]" * 2000 + b"}"),
        b"nonsense",
        b"\0",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(body) == "invalid_json"


def test_an_empty_body_is_refused() -> None:
    assert refusal(b"") == "empty_body"
    assert refusal(gzip.compress(b""), content_encoding="gzip") == "invalid_json"


@pytest.mark.parametrize("depth", [200, 900, 1000, 1020])
@pytest.mark.parametrize("member", ["v", "source", "agent", "ts", "samples"])
def test_deep_nesting_is_refused_in_one_line(depth: int, member: str) -> None:
    document = {"v": 1, "source": "s", "samples": [], member: "DEEP"}
    nested = '{"a":' * (depth // 2) + "[" * (depth // 2) + "]" * (depth // 2) + "}" * (depth // 2)
    refusal(json.dumps(document).replace('"DEEP"', nested).encode())


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        ("NaN", "nan"),
        ("Infinity", "inf"),
        ("-Infinity", "-inf"),
        ("1e999", "inf"),
        ("1" * 400, "inf"),
        ("123456789012345678901234567890", "1.2345678901234568e+29"),
        ("18446744073709551615", "18446744073709551615"),
    ],
)
def test_a_number_that_json_has_not_costs_its_sample_alone(literal: str, value: str) -> None:
    samples = decode(BODY.replace(b": 1}", f": {literal}}}, 7".encode()), None, None, MAX_BYTES).samples
    assert repr(samples[0]["value"]) == value
    assert samples[1] == 7


# -- versions, types, encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2", "0", "-1", "1.0", "1e0", '"1"', "true", "null", "[1]", "{}", "9" * 400])
def test_another_version_is_refused(version: str) -> None:
    assert refusal(BODY.replace(b'"v": 1', f'"v": {version}'.encode())) == "version"


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", "Application/JSON", "application/json; charset=utf-8"]
)
def test_jsons_content_type_is_accepted_in_any_form(content_type: str | None) -> None:
    assert decode(BODY, content_type, None, MAX_BYTES) == ENVELOPE


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-protobuf", "json", "application/jsonp", "é" * 999]
)
def test_a_foreign_content_type_is_refused(content_type: str) -> None:
    assert refusal(BODY, content_type) == "content_type"


@pytest.mark.parametrize("content_encoding", ["gzip", "GZIP"])
def test_gzip_is_undone(content_encoding: str) -> None:
    assert decode(gzip.compress(BODY), None, content_encoding, MAX_BYTES) == ENVELOPE


@pytest.mark.parametrize("content_encoding", [None, "", "identity", "Identity"])
def test_no_encoding_is_none(content_encoding: str | None) -> None:
    assert decode(BODY, None, content_encoding, MAX_BYTES) == ENVELOPE


@pytest.mark.parametrize("content_encoding", ["deflate", "br", "gzip, gzip", "é" * 999])
def test_a_foreign_encoding_is_refused(content_encoding: str) -> None:
    assert refusal(gzip.compress(BODY), None, content_encoding) == "content_encoding"


def test_a_gzip_stream_of_several_members_is_one_body() -> None:
    whole = b"".join(gzip.compress(BODY[start : start + 20]) for start in range(0, len(BODY), 20))
    assert decode(whole, None, "gzip", MAX_BYTES) == ENVELOPE
    assert decode(gzip.compress(BODY) + gzip.compress(b""), None, "gzip", MAX_BYTES) == ENVELOPE


@pytest.mark.parametrize("cut", range(1, len(gzip.compress(BODY))))
def test_a_gzip_stream_that_is_cut_off_is_refused(cut: int) -> None:
    assert refusal(gzip.compress(BODY)[:cut], content_encoding="gzip") == "content_encoding"
    assert refusal(gzip.compress(BODY) + gzip.compress(BODY)[:cut], content_encoding="gzip") == "content_encoding"


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        zlib.compress(BODY),
        gzip.compress(BODY)[:-8] + bytes(8),
        gzip.compress(BODY) + b"garbage",
        b"\x1f\x8b\x08\xff" + bytes(30),
    ],
    ids=["plain", "zlib", "another checksum", "garbage after it", "a header alone"],
)
def test_what_is_no_gzip_stream_is_refused(body: bytes) -> None:
    assert refusal(body, content_encoding="gzip") == "content_encoding"


@given(st.binary(max_size=200), st.sampled_from([None, "gzip"]))
def test_no_bytes_raise_anything_else(body: bytes, content_encoding: str | None) -> None:
    refusal(body, None, content_encoding)


# -- sizes ------------------------------------------------------------------------------------------------------------


def test_the_largest_body_is_accepted_and_one_byte_more_is_not() -> None:
    largest = BODY + b" " * (MAX_BYTES - len(BODY))
    assert decode(largest, None, None, MAX_BYTES) == ENVELOPE
    assert decode(gzip.compress(largest), None, "gzip", MAX_BYTES) == ENVELOPE
    assert refusal(largest + b" ") == "too_large"
    assert refusal(gzip.compress(largest + b" "), content_encoding="gzip") == "too_large"


def test_a_body_of_10_megabytes_is_refused_unread() -> None:
    assert refusal(b"[" * 10_000_000) == "too_large"
    assert decode(BODY + b" " * 10_000_000, None, None, 1 << 24) == ENVELOPE


@pytest.mark.parametrize("before", [b"", gzip.compress(b"{")], ids=["alone", "behind a small member"])
def test_a_gzip_bomb_takes_no_more_memory_than_a_body_may(before: bytes) -> None:
    bomb = before + gzip.compress(bytes(200 << 20))
    assert len(bomb) < MAX_BYTES
    tracemalloc.start()
    try:
        assert refusal(bomb, content_encoding="gzip") == "too_large"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * MAX_BYTES


def test_members_without_number_take_no_more_time_than_a_body_may() -> None:
    """Each by itself is a start from nothing: done by slicing off the rest, it would be quadratic."""
    many = gzip.compress(b"") * (MAX_BYTES // 20)
    assert refusal(many, content_encoding="gzip") == "invalid_json"
