"""The lock of a shard: its holder alone changes the shard's files, and it dies with its holder, as the kernel's do."""

import fcntl
import os
import time
from pathlib import Path

from busmon import files
from busmon.errors import ShardOwnedError

_POLL_SECONDS = 0.05


def locked(registry_dir: Path, shard: int, wait_seconds: float) -> int:
    """The descriptor that holds the shard's lock, which says by whom it is held.

    Raises:
        ShardOwnedError: another process holds it, and still does after that wait.
    """
    descriptor = files.opened(registry_dir / f"shard{shard}.lock", os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ShardOwnedError(f"shard {shard} in {registry_dir} is held by process {owner}") from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor
