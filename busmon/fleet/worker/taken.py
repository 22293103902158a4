"""The mark of a shard that a standby host has taken, so that a worker which replaces a crashed one goes on at once.

The file `shard<k>.taken` is written at the takeover and at each beat, and removed at an orderly end. A mark that is
older than the standby's wait counts for nothing, since another host may have taken the shard meanwhile. One thread.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from busmon import files


class TakenMark:
    """The mark of one shard.

    Args:
        registry_dir: the registry's directory.
        shard: the shard's number.
        seconds: how long a mark is valid after its last beat; 0 without a standby.
    """

    def __init__(self, registry_dir: Path, shard: int, seconds: float) -> None:
        self._path = registry_dir / f"shard{shard}.taken"
        self._seconds = seconds
        self._is_removed = False

    def is_valid(self) -> bool:
        """Return whether the shard was taken, and a worker of this host was alive lately."""
        try:
            beaten_at = os.lstat(self._path).st_mtime
        except OSError:
            return False
        return abs(time.time() - beaten_at) < self._seconds

    def beat(self) -> None:
        """Write the mark, or renew it; on a full disk a later beat writes it."""
        if self._is_removed:
            return
        with suppress(OSError):
            os.close(files.open_file(self._path, os.O_WRONLY | os.O_CREAT))
            os.utime(self._path, follow_symlinks=False)

    def remove(self) -> None:
        """Remove the mark: the shard is let go in order, and the beats until the process ends write no other."""
        self._is_removed = True
        with suppress(OSError):
            self._path.unlink(missing_ok=True)
