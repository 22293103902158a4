"""The lock of a shard: its holder alone changes the shard's files, and it dies with its holder, as the kernel's do."""

import os
import time
from pathlib import Path

from busmon import files
from busmon.errors import ShardOwnedError

_POLL_SECONDS = 0.05


def take_lock(registry_dir: Path, shard: int, wait_seconds: float) -> int:
    """Take the shard's lock; return the descriptor that holds it. The file says which process holds the lock.

    Raises:
        ShardOwnedError: another process holds the lock, and still does after that wait.
    """
    descriptor = files.open_file(registry_dir / f"shard{shard}.lock", os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + wait_seconds
    while not files.try_lock(descriptor):
        if time.monotonic() >= deadline:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise ShardOwnedError(f"shard {shard} in {registry_dir} is held by process {owner}")
        time.sleep(_POLL_SECONDS)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
