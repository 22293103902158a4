"""One source's envelopes on disk: a directory with a file for each, held under an OS lock by the source's process.

Whoever finds a directory that nobody holds may take it over: its process is gone, and a new one of the same agent
sends what is in it. No other user can read what is there. A file appears whole by its name or not at all, and a
checksum tells one that a power cut has torn. Nothing is flushed to the disk: what was written survives the process and
an orderly reboot. For the publishing thread.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self
from zlib import crc32

from busmon import files
from busmon.errors import SpoolError

BLOCK_BYTES = 4096
"""What a file takes at least on common file systems."""

_CHECKSUM_BYTES = 4
_LOCK = "lock"
_UNFINISHED = ".unfinished"


class Entry(NamedTuple):
    """An envelope's file; its name says all but the body.

    Attributes:
        sequence: the envelope's place among its source's, which its `message_id` has.
        samples: what is lost with it.
        domain: the second word of its routing key.
    """

    sequence: int
    samples: int
    domain: str

    @property
    def name(self) -> str:
        """The file's name; names are in the order of the envelopes."""
        return f"{self.sequence:018d}.{self.samples}.{self.domain}"

    @classmethod
    def of(cls, name: str) -> Self | None:
        """Return the entry with this file name; None for another file's name."""
        sequence, _, rest = name.partition(".")
        samples, _, domain = rest.partition(".")
        if not (sequence.isdecimal() and samples.isdecimal() and domain) or "." in domain:
            return None
        return cls(int(sequence), int(samples), domain)


class Spool:
    """A source's directory, made with the first envelope.

    Args:
        directory: the agent's; it holds a directory for each of its sources.
        source: whose envelopes.
    """

    def __init__(self, directory: Path, source: str) -> None:
        self.source = source
        self._path = directory / source
        self._lock: int | None = None

    @classmethod
    def take_over_abandoned(cls, directory: Path) -> Iterator[Self]:
        """Take over the spools of dead processes in an agent's directory, the oldest first."""
        with suppress(OSError):
            for path in sorted(directory.iterdir(), key=_read_mtime):
                spool = cls(directory, path.name)
                if path.suffix != _UNFINISHED and spool._take(path, os.O_RDWR):
                    yield spool

    def entries(self) -> list[Entry]:
        """List the entries, oldest first.

        Raises:
            SpoolError: the directory can't be read.
        """
        try:
            names = sorted(path.name for path in self._path.iterdir())
        except OSError as error:
            raise _failure(self._path, error) from error
        return [entry for entry in map(Entry.of, names) if entry is not None]

    def write(self, entry: Entry, body: bytes) -> None:
        """Keep an envelope.

        Raises:
            SpoolError: the disk is full, or not to be written to.
        """
        path = self._path / entry.name
        try:
            if self._lock is None:
                self._make()
            files.replace(path, crc32(body).to_bytes(_CHECKSUM_BYTES) + body, f"{path.suffix}{_UNFINISHED}")
        except OSError as error:
            raise _failure(self._path, error) from error

    def read(self, entry: Entry) -> bytes | None:
        """Read the envelope's body; None if it is torn or gone."""
        try:
            found = (self._path / entry.name).read_bytes()
        except OSError:
            return None
        body = found[_CHECKSUM_BYTES:]
        return body if found[:_CHECKSUM_BYTES] == crc32(body).to_bytes(_CHECKSUM_BYTES) else None

    def size(self, entry: Entry) -> int:
        """Return the number of bytes that the envelope takes on the disk."""
        with suppress(OSError):
            return bytes_on_disk((self._path / entry.name).stat().st_size - _CHECKSUM_BYTES)
        return 0

    def remove(self, entry: Entry) -> None:
        """Keep an envelope no longer. One that can't be removed is sent again some day, and the fleet knows its id."""
        with suppress(OSError):
            (self._path / entry.name).unlink()

    def close(self) -> None:
        """Let go of the directory, which goes if nothing is left in it. What others put there stays."""
        if self._lock is None:
            return
        with suppress(OSError, SpoolError):
            if not self.entries():
                for path in (*self._path.glob(f"*{_UNFINISHED}"), self._path / _LOCK):
                    path.unlink()
                self._path.rmdir()
        self.let_go()

    def let_go(self) -> None:
        """Close the lock alone: in a forked child, where it is still the parent's."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _make(self) -> None:
        """Make the directory locked: it gets its name when nobody can take it over any more."""
        unfinished = self._path.with_name(f"{self._path.name}{_UNFINISHED}")
        make_private(unfinished)
        if self._take(unfinished, os.O_RDWR | os.O_CREAT):
            unfinished.rename(self._path)

    def _take(self, path: Path, flags: int) -> bool:
        """Lock a directory; whether it is a spool of this user's own, and nobody else had."""
        try:
            found = path.lstat()  # a link may lead to what another user would have published, or overwritten
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                return False
            lock = os.open(path / _LOCK, flags | os.O_NOFOLLOW, 0o600)
        except OSError:
            return False
        try:
            is_free = files.try_lock(lock)
        except OSError:
            is_free = False
        if not is_free:
            os.close(lock)
            return False
        self._lock = lock
        _close_to_others(path)
        return True


def make_private(path: Path) -> None:
    """Make a directory, and those above it that are missing, for this user alone.

    Raises:
        OSError: that isn't possible.
    """
    if not path.exists():
        make_private(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def find_fault(directory: Path) -> str:
    """Find why this user can keep nothing in a directory, which is made when it is needed; empty where nothing is."""
    place = directory
    try:
        while not place.exists():
            place = place.parent
    except OSError as error:
        return f"{directory}: {error.strerror}"
    if not place.is_dir():
        return f"{place}: Not a directory"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"{place}: user {os.geteuid()} can't write there, user {place.stat().st_uid} owns it"
    return ""


def _close_to_others(path: Path) -> None:
    """Take from others the right to look into a spool that an earlier version left open."""
    with suppress(OSError):
        path.chmod(0o700)
        for entry in path.iterdir():
            if not entry.is_symlink():
                entry.chmod(0o600)


def _read_mtime(path: Path) -> float:
    """Read when the path last changed; 0 if it no longer exists, so that the other paths are still read."""
    with suppress(OSError):
        return path.lstat().st_mtime
    return 0.0


def bytes_on_disk(size: int) -> int:
    """Return the size of the file of such a body."""
    return -(-(size + _CHECKSUM_BYTES) // BLOCK_BYTES) * BLOCK_BYTES


def _failure(path: Path, error: OSError) -> SpoolError:
    return SpoolError(f"spool_dir: {path}: {error.strerror}")
