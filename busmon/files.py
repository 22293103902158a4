"""Files of busmon's directories, opened as what they are to be: regular files, at once, and no larger than expected.

Whoever can write to a directory may have put something else in a file's place: a pipe that nobody writes to, a
directory, a link, a device. None is followed or waited for. Pure system calls; any process.
"""

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotAFileError(OSError):
    """Something else stands in a file's place; trying again helps once somebody has taken it away."""

    def __init__(self, path: Path | str, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        super().__init__(errno.EINVAL, f"Is {kind}, in a file's place; take it away", str(path))


def opened(path: Path | str, flags: int = os.O_RDONLY) -> int:
    """Open a regular file; with `O_CREAT`, make it for its user alone.

    Raises:
        NotAFileError: it is something else.
        OSError: it can't be opened.
    """
    with suppress(FileNotFoundError):
        _require_file(path, os.lstat(path).st_mode)
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _require_file(path, os.fstat(descriptor).st_mode)
    except NotAFileError:
        os.close(descriptor)
        raise
    return descriptor


def draft(path: Path | str) -> int:
    """Make an empty file, in the place of whatever was left there; nothing that stands there is written to.

    Raises:
        OSError: a directory stands there, or there is no room.
    """
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as all of this module
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def content(path: Path | str, most: int) -> bytes:
    """Return what a file holds.

    Raises:
        NotAFileError: it is none.
        OSError: it can't be read, or holds more than `most` bytes.
    """
    with open(opened(path), "rb") as stream:
        found = stream.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return found


def replace(path: Path, new: bytes, suffix: str = ".tmp") -> None:
    """Put new content in the place of a file, so that no reader sees half of it.

    Raises:
        OSError: there is no room; the file stands as it was.
    """
    beside = path.with_suffix(suffix)
    with os.fdopen(draft(beside), "wb") as stream:
        stream.write(new)
    beside.replace(path)


def _require_file(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(path, mode)
