"""Writes that are whole or an error, and names that outlast a power cut. Pure system calls; any process."""

import errno
import os
from pathlib import Path


def write(descriptor: int, content: bytes, offset: int) -> None:
    """Write all of `content` at `offset`.

    Raises:
        OSError: it can't be, or only in part, as the last page of a full disk is.
    """
    written = os.pwrite(descriptor, content, offset)
    if written != len(content):
        raise OSError(errno.ENOSPC, f"{written} of {len(content)} bytes were written: {os.strerror(errno.ENOSPC)}")


def sync_names(directory: Path) -> None:
    """Have the disk hold the names in a directory: a file's own sync covers its contents alone."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
