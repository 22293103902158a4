"""The entry of every benchmark script, which ends with one line where a library, a program or a broker is missing.

A script imports this module before the libraries that may be missing, and calls `run`. The hook for uncaught errors is
set only in a process whose program is a script of this folder.
"""

import shutil
import signal
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType

from busmon.errors import BusmonError

FOLDER = Path(__file__).parent
_ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
INSTALL = "pip install --editable '.[fleet]' --group dev --group benchmarks"


def run(main: Callable[[], int | None]) -> None:
    """Run a script's `main`, and exit with its status; SIGTERM and SIGHUP end what it has started, as Ctrl-C does."""
    for number in _ENDING_SIGNALS:
        signal.signal(number, _end)
    sys.exit(main())


def _end(number: int, _: FrameType | None) -> None:
    for each in _ENDING_SIGNALS:
        signal.signal(each, signal.SIG_IGN)  # the end is under way
    sys.exit(128 + number)


def require_library(name: str) -> None:
    """End the script where the library isn't installed, before a measurement that is lost without it."""
    if find_spec(name) is None:
        sys.exit(word_missing(name))


def require_program(name: str, install: str = INSTALL) -> str:
    """Find a program next to the interpreter or on the path, or end the script; return the program's path."""
    near = Path(sys.executable).with_name(name)
    path = str(near) if near.exists() else shutil.which(name)
    if path is None:
        sys.exit(word_missing(name, install))
    return path


def word_missing(name: str, install: str = INSTALL) -> str:
    """Word the line that says what is missing, and what installs it."""
    return f"{Path(sys.argv[0]).name} needs {name}, which isn't installed; run: {install}"


def explain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a missing library or a user's mistake in one line, and any other error with its traceback."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        print(word_missing(error.name.partition(".")[0]), file=sys.stderr)
    elif isinstance(error, BusmonError):
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if Path(sys.argv[0]).resolve().parent == FOLDER:
    sys.excepthook = explain
