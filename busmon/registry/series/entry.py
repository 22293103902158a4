"""Sizes in a value file: the header, and an entry of key length, key, padding, value and timestamp. Pure."""

HEADER_BYTES = 8
"""Of a file, before its first entry."""

VALUE_BYTES = 16
MAX_FILE_BYTES = 1 << 30
"""A value file doubles when it is full, and its header has 31 bits for its length."""

_LENGTH_BYTES = 4
_ALIGNMENT = 8


def pad_key_bytes(key_bytes: int) -> int:
    """Return what a key of this length takes with its length and padding, in bytes."""
    start = _LENGTH_BYTES + key_bytes
    return start + _ALIGNMENT - start % _ALIGNMENT


def entry_bytes(key_bytes: int) -> int:
    """Return what an entry with a key of this length takes, in bytes."""
    return pad_key_bytes(key_bytes) + VALUE_BYTES
