"""The processes that a benchmark starts: none outlives it, however it ends.

The kernel sends them SIGTERM when the thread that started them ends, so the main thread starts them.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_EXECUTE = '[ "$PPID" = "$0" ] && exec "$@"'
"""In case this process ended before the child could ask the kernel for the signal."""


def start(command: Sequence[str | Path], **given: Any) -> "subprocess.Popen[Any]":
    """Start a process that ends with this one; `given` are the arguments of `subprocess.Popen`."""
    program = shutil.which("setpriv")  # of util-linux
    tied = [program, "--pdeathsig", "TERM", "--", "sh", "-c", _EXECUTE, str(os.getpid())] if program else []
    return subprocess.Popen([*tied, *command], **given)


@contextmanager
def running(command: Sequence[str | Path], **given: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Run a process for the time of a block, and end it in order."""
    process = start(command, **given)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.communicate()  # reads what it still writes to a pipe, so that it isn't held up
