"""Samples of what a soak's processes and files take, and the rule by which they are flat.

A thread samples every few seconds. The medians of the last third of all samples may be at most a tenth above those of
the middle third, and a small amount that noise takes. The first third fills caches and files.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Self

import orjson

from tests.soak.processes import of_run

INTERVAL_SECONDS = 5.0
LEAST_AGE_TICKS = 200
"""A process that is younger is still starting; 100 ticks are a second."""
TOLERANCE = 0.1
LEAST_SAMPLES = 30
ALLOWANCES = {"private_kib": 2048, "descriptors": 3, "threads": 1, "files": 3, "bytes": 1 << 20}
"""Differences that are noise at any size, by the last part of a figure's name."""
FOLDERS = {"registry": "host-*/registry", "spool": "spool"}
ROLES = {"worker": "worker", "exporter": "exporter", "up": "supervisor", "tests.soak.up": "supervisor"}

Sample = Mapping[str, float]


class Sampler:
    """The thread that samples.

    Args:
        directory: the run's, by which its processes are found.
        path: takes a line for each sample.
    """

    def __init__(self, directory: Path, path: Path) -> None:
        self._directory = directory
        self._path = path
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            with self._path.open("ab") as log:
                log.write(orjson.dumps(sample(self._directory)) + b"\n")


def sample(directory: Path) -> Sample:
    """Return the figures of now: the largest of each role's processes and of each host's folders.

    A host that was destroyed a moment ago has a part of its files, while another host has all.
    """
    figures: dict[str, float] = defaultdict(float)
    for pid, argv in of_run(directory):
        role = _role(argv)
        if role is None or _age_ticks(pid) < LEAST_AGE_TICKS:
            continue
        with suppress(OSError, ValueError, IndexError):
            for name, value in _figures(pid).items():
                figures[f"{role} {name}"] = max(figures[f"{role} {name}"], value)
    for folder, pattern in FOLDERS.items():
        for found in directory.glob(pattern):
            sizes = [size for path in found.rglob("*") if (size := _size(path)) is not None]
            for name, value in {"files": len(sizes), "bytes": sum(sizes)}.items():
                figures[f"{folder} {name}"] = max(figures[f"{folder} {name}"], value)
    return figures


def read(path: Path) -> list[Sample]:
    """Return all samples of a file."""
    return [*map(orjson.loads, path.read_bytes().splitlines())] if path.exists() else []


def judge(samples: Iterable[Sample]) -> Iterator[tuple[str, float, float, bool]]:
    """Yield each figure with the medians of the middle and the last third, and whether it is flat."""
    columns: dict[str, list[float]] = defaultdict(list)
    for each in samples:
        for name, value in each.items():
            columns[name].append(value)
    for name, values in sorted(columns.items()):
        if len(values) >= LEAST_SAMPLES:
            third = len(values) // 3
            middle, last = median(values[third : 2 * third]), median(values[2 * third :])
            allowance = ALLOWANCES[name.rpartition(" ")[2]]
            yield name, middle, last, last <= middle * (1 + TOLERANCE) + allowance


def _role(argv: list[str]) -> str | None:
    if any("beam" in part for part in argv[:1]):
        return "broker"
    if "tests.soak.raw_publisher" in argv or "tests.soak.sdk_publisher" in argv:
        return "publisher"
    return next((role for word, role in ROLES.items() if word in argv), None)


def _figures(pid: int) -> dict[str, float]:
    process = Path(f"/proc/{pid}")
    lines = (line.split() for line in (process / "smaps_rollup").read_text().splitlines()[1:])
    rollup = {words[0]: int(words[1]) for words in lines}
    return {
        "private_kib": rollup["Private_Dirty:"] + rollup["Private_Clean:"],
        "descriptors": sum(1 for _ in (process / "fd").iterdir()),
        "threads": sum(1 for _ in (process / "task").iterdir()),
    }


def _age_ticks(pid: int) -> float:
    with suppress(OSError, IndexError):
        started = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19])
        up_seconds = float(Path("/proc/uptime").read_text().split()[0])
        return up_seconds * os.sysconf("SC_CLK_TCK") - started
    return 0


def _size(path: Path) -> int | None:
    """Return how much of the disk a file takes; a journal of 16 MiB is mostly empty."""
    with suppress(OSError):
        found = path.stat()
        return found.st_blocks * 512 if path.is_file() else None
    return None
