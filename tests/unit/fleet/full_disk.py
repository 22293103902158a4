"""A disk that takes no more, for a while."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill(part_of_name: str, disk: pytest.MonkeyPatch) -> None:
    """No write into these files finds room."""
    write = os.pwrite

    def write_or_fail(descriptor: int, data: bytes, offset: int) -> int:
        if part_of_name in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            full()
        return write(descriptor, data, offset)

    disk.setattr(os, "pwrite", write_or_fail)
