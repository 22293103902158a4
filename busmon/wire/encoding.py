"""Content encodings: a compression (HTTP's use), a charset (kombu's and Spring's use), or several of both.

No decompressor makes more than a body may have. Never raises anything but `EnvelopeError`. Pure.
"""

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason

PLAIN_ENCODINGS = frozenset({None, "", "identity", "binary", "utf-8", "UTF-8", "utf8", "us-ascii", "ascii"})
"""Content encodings, as they are most often written, of a body that is read as it is."""

COMPRESSION = "compression"
"""The header in which kombu states a compression, whose content encoding is then the charset."""

_AS_IS = PLAIN_ENCODINGS | {"us_ascii", "utf_8", "utf-8-sig", "ansi_x3.4-1968", "none", "7bit", "8bit", "charset"}
_MAX_COMPRESSIONS = 4
_MAX_LZMA_MEMORY_BYTES = 70 << 20
"""A decoder's memory at LZMA's highest preset; most of it is touched only by output that may not be so long."""

_WINDOW, _GZIP_WINDOW, _EITHER_WINDOW, _RAW_WINDOW = 15, 31, 47, -15
"""zlib's window bits: 32 KiB of history with a zlib header, a gzip header, either of both, or none."""

_SEPARATORS = re.compile(r"[\s,;:=]+")
_CHARSETS = re.compile(
    r"utf[-_]?(16|32)([-_]?[lb]e)?|iso[-_]?8859[-_][0-9]{1,2}|latin[-_]?1|(windows-|cp)125[0-9]"
    r"|koi8-[ru]|shift[-_]jis|euc-(jp|kr)|gbk|gb2312|gb18030|big5"
)
_ZLIB_METHOD, _ZLIB_CHECK = 8, 31
_BROKEN = (zlib.error, lzma.LZMAError, OSError, EOFError)

_GZIP = dict.fromkeys(("gzip", "x-gzip", "application/gzip"), "gzip")
_DEFLATE = dict.fromkeys(("deflate", "x-deflate", "zlib", "application/zlib"), "deflate")
_KOMBU_ZLIB = "application/x-gzip"
"""kombu's name of what zlib writes, which its header `compression` has; elsewhere it is gzip's."""
_KOMBU_ALIASES = frozenset({"gzip", "zlib"})
_EITHER = {_KOMBU_ZLIB: "either"}
_BZIP2 = dict.fromkeys(("bzip2", "x-bzip2", "bz2", "application/x-bzip2", "application/x-bz2"), "bzip2")
_LZMA = dict.fromkeys(("xz", "x-xz", "lzma", "x-lzma", "application/x-xz", "application/x-lzma"), "lzma")
_COMPRESSIONS: Mapping[str, str] = {**_GZIP, **_DEFLATE, **_EITHER, **_BZIP2, **_LZMA}
_NAMES = {*_COMPRESSIONS, "br", "brotli", "application/x-brotli", "zstd", "application/zstd", "lz4", "snappy"}
"""Compressions; Python's standard library has no decoder for some of them."""
_KNOWN = "a charset, gzip, deflate, bzip2 or xz"


def decompress(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Return a body without its compressions, and in UTF-8 if a charset is stated.

    Args:
        body: the body as delivered.
        content_encoding: AMQP's property, and what `stated_encoding` adds to it.
        max_bytes: the size that a body may have after each decompression.

    Raises:
        EnvelopeError: `too_large` or `content_encoding`.
    """
    compressions, charsets = _split(content_encoding)
    while compressions:
        coding = next((coding for coding in compressions if _IS_OF[coding](body)), compressions[0])
        compressions.remove(coding)
        body = _expand(coding, body, max_bytes)
    return _recode(body, charsets[0], max_bytes) if charsets else body


def find_encoding(content_encoding: str | None, headers: Mapping[str, Any]) -> str | None:
    """Return the content encoding with the compression that kombu states in a header."""
    compression = headers.get(COMPRESSION)
    if isinstance(compression, bytes):
        compression = compression.decode(errors="replace")
    if not isinstance(compression, str) or (name := compression.lower()) not in _NAMES:
        return content_encoding
    return f"{_KOMBU_ZLIB if name in _KOMBU_ALIASES else name}, {content_encoding or ''}"


def may_be_compressed(body: bytes, content_encoding: str | None) -> bool:
    """Return whether a body may expand; no compression begins with the brace of a JSON object."""
    return content_encoding not in PLAIN_ENCODINGS or body[:1] != b"{"


def _split(content_encoding: str) -> tuple[list[str], list[str]]:
    """Return the compressions and the charsets other than UTF-8 that a content encoding names."""
    compressions, charsets = [], []
    for name in filter(None, _SEPARATORS.split(content_encoding.lower())):
        if coding := _COMPRESSIONS.get(name):
            compressions.append(coding)
        elif _CHARSETS.fullmatch(name):
            charsets.append(name)
        elif name not in _AS_IS:
            raise EnvelopeError(BodyReason.CONTENT_ENCODING, f"expected {_KNOWN}; got {content_encoding[:80]!r}")
    if len(compressions) > _MAX_COMPRESSIONS:
        raise EnvelopeError(BodyReason.CONTENT_ENCODING, f"more than {_MAX_COMPRESSIONS} compressions")
    return compressions, charsets


def _recode(body: bytes, charset: str, max_bytes: int) -> bytes:
    try:
        recoded = body.decode(charset).encode()
    except (UnicodeError, LookupError) as error:
        raise EnvelopeError(BodyReason.CONTENT_ENCODING, f"not {charset}: {error}"[:200]) from error
    if len(recoded) > max_bytes:
        raise EnvelopeError(BodyReason.TOO_LARGE, f"in UTF-8 it has more than the {max_bytes} bytes that are accepted")
    return recoded


# -- compressions ------------------------------------------------------------------------------------------------------


def _is_gzip(body: bytes) -> bool:
    return body.startswith(b"\x1f\x8b")


def _is_zlib(body: bytes) -> bool:
    """Return whether a body begins with a header by RFC 1950."""
    start = body[:2]
    return len(start) > 1 and start[0] & 0xF == _ZLIB_METHOD and int.from_bytes(start) % _ZLIB_CHECK == 0


_IS_OF: Mapping[str, Callable[[bytes], bool]] = {
    "gzip": _is_gzip,
    "deflate": _is_zlib,
    "either": lambda body: _is_gzip(body) or _is_zlib(body),
    "bzip2": lambda body: body.startswith(b"BZh"),
    "lzma": lambda body: body.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")),
}


_DECOMPRESSORS: Mapping[str, Sequence[Callable[[], Any]]] = {
    "gzip": [partial(zlib.decompressobj, _GZIP_WINDOW)],
    "deflate": [partial(zlib.decompressobj, _WINDOW), partial(zlib.decompressobj, _RAW_WINDOW)],
    "either": [partial(zlib.decompressobj, _EITHER_WINDOW)],
    "bzip2": [bz2.BZ2Decompressor],
    "lzma": [partial(lzma.LZMADecompressor, memlimit=_MAX_LZMA_MEMORY_BYTES)],
}
"""In the order in which they are tried: some write `deflate` without the header that RFC 9110 asks for."""


def _expand(coding: str, body: bytes, max_bytes: int) -> bytes:
    fault: Exception | None = None
    for decompressor in _DECOMPRESSORS[coding]:
        try:
            return _read(decompressor(), body, max_bytes)
        except _BROKEN as error:
            fault = error
    name = "gzip" if coding == "either" else coding
    raise EnvelopeError(BodyReason.CONTENT_ENCODING, f"not {name}: {fault}"[:200]) from fault


def _read(stream: Any, body: bytes, max_bytes: int) -> bytes:
    expanded: bytes = stream.decompress(body, max_bytes + 1)
    if stream.unused_data.strip(b"\0"):
        if not _is_gzip(body):
            raise EnvelopeError(BodyReason.CONTENT_ENCODING, "there is more behind the compressed stream")
        expanded = _members(body, max_bytes)
    if len(expanded) > max_bytes:
        raise EnvelopeError(BodyReason.TOO_LARGE, f"it expands to more than the {max_bytes} bytes that are accepted")
    if not stream.eof:
        raise EnvelopeError(BodyReason.CONTENT_ENCODING, "the compressed stream is cut off")
    return expanded


def _members(body: bytes, max_bytes: int) -> bytes:
    """Read all members of a gzip stream (RFC 1952, 2.2); for one alone, zlib takes a hundredth of the time."""
    with gzip.GzipFile(fileobj=io.BytesIO(body)) as stream:
        return stream.read(max_bytes + 1)
