"""Every state that a directory's files go through: what `kill -9` would leave at any line of the product.

The kernel keeps what a killed process wrote, mapped pages too. So the files as they are between two lines are what a
crash there leaves, and no test code need be in the product, nor a list of where it writes: each line is looked at.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import busmon.registry

PRODUCT = str(Path(busmon.registry.__file__).parent)


class State(NamedTuple):
    """The files at one moment, by name, and how much of its life's work the process had done by then."""

    files: dict[str, bytes]
    done: int
    line: str

    def lay_out(self, directory: Path) -> None:
        """Make the directory hold these files and no others."""
        for path in directory.iterdir():
            path.unlink()
        for name, content in self.files.items():
            (directory / name).write_bytes(content)


def states(directory: Path, life: Callable[[list[Any]], object]) -> list[State]:
    """The states that the files go through while `life` runs; it appends to its argument what it has done."""
    found: list[State] = []
    done: list[Any] = []

    def look(line: str) -> None:
        files = {path.name: path.read_bytes() for path in directory.iterdir()}
        if not found or (found[-1].files, found[-1].done) != (files, len(done)):
            found.append(State(files, len(done), line))

    with each_line(look):
        life(done)
    look("the end")
    return found


@contextmanager
def each_line(look: Callable[[str], None]) -> Iterator[None]:
    """Call `look` before each line of the registry and at each return from it."""

    def trace(frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PRODUCT):
            return None
        if event != "call":
            look(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
