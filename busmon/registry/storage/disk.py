"""Room on the disk, writes that are whole or an error, names that outlast a power cut. System calls; any process."""

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


def allocate(descriptor: int, size: int, path: Path) -> None:
    """Have the disk keep room for the first `size` bytes of the file at `path`.

    Raises:
        OSError: there is no room; the error says for which file and for how much.
    """
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        space = os.fstatvfs(descriptor)
        free = space.f_bavail * space.f_frsize
        needed = f"{path}: {size:,} bytes are needed, {free:,} are free on its disk"
        raise OSError(error.errno, f"{needed}: {error.strerror}") from error


def sync_names(directory: Path) -> None:
    """Have the disk hold the names in a directory: a file's own sync covers its contents alone."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
