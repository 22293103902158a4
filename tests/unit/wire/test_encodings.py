"""A content encoding is a charset, a compression or several of both; no body expands beyond what a body may have."""

import bz2
import gzip
import lzma
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from busmon.errors import EnvelopeError
from busmon.wire.body import plain
from busmon.wire.encoding import PLAIN_ENCODINGS, find_encoding, may_be_compressed

MAX_BYTES = 1 << 20
BODY = b'{"v": 1, "source": "s", "samples": []}'
GZIPPED = gzip.compress(BODY, mtime=0)
UMLAUT = '{"source": "prüfer"}'


def refusal(body: bytes, content_encoding: str | None) -> str:
    with pytest.raises(EnvelopeError) as refused:
        plain(body, content_encoding, MAX_BYTES)
    assert len(str(refused.value)) < 300
    return refused.value.reason


def raw_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-15)


@pytest.mark.parametrize(
    "content_encoding",
    [
        "utf-8",
        "UTF-8",
        "utf8",
        "binary",
        "us-ascii",
        "US-ASCII",
        "ascii",
        "identity",
        "7bit",
        "8bit",
        "None",
        "charset=utf-8",
    ],
)
def test_a_charset_that_utf_8_holds_changes_no_byte(content_encoding: str) -> None:
    assert plain(BODY, content_encoding, MAX_BYTES) == BODY
    assert plain(b"\x0a\x00\xff", content_encoding, MAX_BYTES) == b"\x0a\x00\xff"


@pytest.mark.parametrize(
    ("content_encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("x-gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("application/gzip", gzip.compress),
        ("gzip, utf-8", gzip.compress),
        ("utf-8, gzip", gzip.compress),
        ("gzip:UTF-8", gzip.compress),
        ("gzip;utf-8", gzip.compress),
        (" gzip ", gzip.compress),
        ("gzip, identity", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("deflate:UTF-8", zlib.compress),
        ("zlib", zlib.compress),
        ("application/zlib", zlib.compress),
        ("application/x-gzip", zlib.compress),
        ("application/x-gzip", gzip.compress),
        ("bzip2", bz2.compress),
        ("application/x-bz2", bz2.compress),
        ("xz", lzma.compress),
        ("application/x-lzma", lzma.compress),
        ("lzma", lambda body: lzma.compress(body, lzma.FORMAT_ALONE)),
        ("xz", lambda body: lzma.compress(body, preset=9)),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ("gzip, deflate", lambda body: gzip.compress(zlib.compress(body))),
        ("deflate, gzip", lambda body: gzip.compress(zlib.compress(body))),
        ("gzip", lambda body: gzip.compress(body) + b"\0"),
        ("deflate", lambda body: zlib.compress(body) + b"\0\0"),
    ],
)
def test_each_compression_is_undone(content_encoding: str, compress: Callable[[bytes], bytes]) -> None:
    assert plain(compress(BODY), content_encoding, MAX_BYTES) == BODY


@pytest.mark.parametrize("charset", ["iso-8859-1", "latin1", "windows-1252", "UTF-16", "utf-16le", "UTF-16BE"])
def test_another_charset_is_told_in_utf_8(charset: str) -> None:
    assert plain(UMLAUT.encode(charset), charset, MAX_BYTES) == UMLAUT.encode()
    assert plain(gzip.compress(UMLAUT.encode(charset)), f"gzip, {charset}", MAX_BYTES) == UMLAUT.encode()


@pytest.mark.parametrize(
    ("body", "content_encoding"),
    [
        (BODY, "gzip"),
        (BODY, "deflate"),
        (BODY, "application/x-gzip"),
        (BODY, "bzip2"),
        (BODY, "xz"),
        (zlib.compress(BODY), "gzip"),
        (GZIPPED, "deflate"),
        (GZIPPED, "gzip, gzip"),
        (zlib.compress(BODY)[:-1], "deflate"),
        (raw_deflate(BODY)[:-1], "deflate"),
        (bz2.compress(BODY)[:-1], "bzip2"),
        (lzma.compress(BODY)[:-1], "xz"),
        (zlib.compress(BODY) + b"more", "deflate"),
        (bz2.compress(BODY) + b"more", "bzip2"),
        (BODY, "br"),
        (BODY, "zstd"),
        (BODY, "gzip, br"),
        (BODY, "base64"),
        (BODY, "rot13"),
        (BODY, "unicode_escape"),
        (BODY, "idna"),
        (BODY, "iso-8859-99"),
        (BODY, "é" * 999),
        (b"\xff", "utf-16"),
        (GZIPPED, ", ".join(["gzip"] * 5)),
    ],
)
def test_what_is_not_as_its_content_encoding_says_is_refused(body: bytes, content_encoding: str) -> None:
    assert refusal(body, content_encoding) == "content_encoding"


@pytest.mark.parametrize(
    ("content_encoding", "compress"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("application/x-gzip", zlib.compress),
        ("bzip2", bz2.compress),
        ("xz", lzma.compress),
        ("gzip, gzip", lambda body: gzip.compress(gzip.compress(body))),
        ("gzip, bzip2", lambda body: gzip.compress(bz2.compress(body))),
    ],
)
def test_no_bomb_takes_more_memory_than_a_body_may(content_encoding: str, compress: Callable[[bytes], bytes]) -> None:
    bomb = compress(bytes(64 << 20))
    tracemalloc.start()
    try:
        assert refusal(bomb, content_encoding) == "too_large"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * MAX_BYTES  # an LZMA decoder of the usual preset has 8 MiB of history


def test_the_limit_holds_in_utf_8() -> None:
    assert refusal(b"\xfc" * (MAX_BYTES // 2 + 1), "latin1") == "too_large"
    assert plain(b"\xfc" * (MAX_BYTES // 2), "latin1", MAX_BYTES) == "ü".encode() * (MAX_BYTES // 2)


def test_kombus_header_is_a_compression_beside_the_charset() -> None:
    stated = find_encoding("utf-8", {"compression": "application/x-gzip"})
    assert plain(zlib.compress(BODY), stated, MAX_BYTES) == BODY
    assert plain(bz2.compress(BODY), find_encoding(None, {"compression": "application/x-bz2"}), MAX_BYTES) == BODY
    assert plain(zlib.compress(BODY), find_encoding("utf-8", {"compression": b"application/x-gzip"}), MAX_BYTES) == BODY
    for alias in ("gzip", "zlib"):
        assert plain(zlib.compress(BODY), find_encoding("binary", {"compression": alias}), MAX_BYTES) == BODY
        assert plain(GZIPPED, find_encoding("binary", {"compression": alias}), MAX_BYTES) == BODY
    assert refusal(BODY, find_encoding("utf-8", {"compression": "application/zstd"})) == "content_encoding"


@pytest.mark.parametrize("header", ["fast", "none", "", 7, None, True, b"\xff", ["gzip"]])
def test_another_header_of_that_name_is_somebody_elses(header: object) -> None:
    assert find_encoding("utf-8", {"compression": header}) == "utf-8"


def test_a_body_that_may_expand_is_told_by_its_first_byte() -> None:
    for encoding in PLAIN_ENCODINGS:
        assert not may_be_compressed(BODY, encoding)
        assert may_be_compressed(zlib.compress(BODY), encoding)
    assert may_be_compressed(BODY, "gzip")
    assert not any(
        compress(BODY).startswith(b"{") for compress in (gzip.compress, zlib.compress, bz2.compress, lzma.compress)
    )
