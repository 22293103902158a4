"""Files of busmon's directories: opened as regular files, at once; replaced whole; locked.

Whoever can write to a directory may have put something else in a file's place: a pipe that nobody writes to, a
directory, a link, a device. None is followed or waited for. Pure system calls; any process.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    """Another kind of object has a file's place; a retry helps once somebody has taken it away."""

    def __init__(self, path: Path | str, mode: int) -> None:
        kind = _KINDS.get(stat.S_IFMT(mode), "no regular file")
        super().__init__(errno.EINVAL, f"Is {kind}, in a file's place; take it away", str(path))


def open_file(path: Path | str, flags: int = os.O_RDONLY) -> int:
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
    with open(open_file(path), "rb") as stream:
        found = stream.read(most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return found


@contextmanager
def replacing(path: Path, suffix: str = ".tmp") -> Iterator[int]:
    """Yield a draft's descriptor; at the end put the draft in the file's place, so that no reader sees half of it.

    Raises:
        OSError: there is no room; the file stands as it was, and nothing of the draft is left.
    """
    draft_path = path.with_suffix(suffix)
    descriptor = draft(draft_path)
    try:
        yield descriptor
        draft_path.replace(path)
    except BaseException:
        draft_path.unlink(missing_ok=True)  # the draft may hold the last blocks of a full disk
        raise
    finally:
        os.close(descriptor)


def replace(path: Path, new: bytes, suffix: str = ".tmp", mode: int = 0o600) -> None:
    """Put new content in the place of a file, so that no reader sees half of it.

    Raises:
        OSError: there is no room; the file stands as it was.
    """
    with replacing(path, suffix) as descriptor, os.fdopen(descriptor, "wb", closefd=False) as stream:
        stream.write(new)
        if mode != 0o600:  # noqa: PLR2004 - as drafts are made
            os.fchmod(descriptor, mode)


@contextmanager
def hold_lock(path: Path) -> Iterator[int]:
    """Hold the lock of a file, which is made if there is none; wait for another holder.

    The file is opened each time, so that a forked child's death can't leave the lock held.
    """
    descriptor = open_file(path, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file; return whether nobody else holds the lock. The lock ends with the last copy of the descriptor.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _require_file(path: Path | str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(path, mode)
