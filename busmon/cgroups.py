"""The cgroups of this process, version 1 or 2: their directories, and the numbers in their files.

A file that is missing, or holds a word such as `max`, gives no number. Pure reads; any process.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_MEMORY_FILES = (
    ("memory.current", "memory.max", "inactive_file"),
    ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
)
"""Use, limit, and the field of `memory.stat` for pages of files that the kernel would just drop; by version."""


class MemoryLimit(NamedTuple):
    """One cgroup's memory, in bytes; the use has no pages that the kernel would just drop."""

    used: float
    limit: float


def groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Find the directories of the process's cgroup for a controller and of its ancestors, the innermost first.

    Inside a container the named one may not be there to see: its root then is the container's own.
    """
    mounts = root / "sys/fs/cgroup"
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = mounts / controllers if controllers else mounts
        innermost = mount / path.lstrip("/")
        for group in (innermost, *innermost.parents):
            if group.is_relative_to(mount) and group.is_dir():
                yield group


def memory_limits(machine_bytes: float = math.inf, root: Path = Path("/")) -> Iterator[MemoryLimit]:
    """Find each cgroup of the process that has a memory limit below the machine's memory.

    Without a limit, version 1 has a number that no machine reaches.
    """
    for group in groups("memory", root):
        for use, limit, droppable in _MEMORY_FILES:
            used, most = number(group / use), number(group / limit)
            if used is not None and most and 0 < most < machine_bytes:
                yield MemoryLimit(max(0.0, used - fields(group / "memory.stat").get(droppable, 0)), most)


def lines(path: Path) -> list[str]:
    """Read a file's lines; none where the file can't be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def numbers(path: Path) -> list[float]:
    """Read the numbers of a file's first line; words, such as `max` and `cpu`, are skipped."""
    words = " ".join(lines(path)[:1]).split()
    return [float(word) for word in words if word.lstrip("-").isdigit()]


def number(path: Path) -> float | None:
    """Read the first number of a file's first line."""
    return next(iter(numbers(path)), None)


def fields(path: Path) -> Mapping[str, float]:
    """Read the numbers of a file with a name and a number on each line; kB are converted to bytes."""
    found = {}
    for line in lines(path):
        name, digits, *unit = (*line.replace(":", " ").split(), "", "")[:3]
        if digits.isdigit():
            found[name] = float(digits) * (1024 if unit == ["kB"] else 1)
    return found
