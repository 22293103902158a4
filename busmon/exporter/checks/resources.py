"""The resources that this process may use, and the share of each in use: memory, disk, CPU.

Memory and CPU are held against the tightest limit of the cgroups that the process is in, version 1 or 2, as containers
and systemd set them, else against the machine's. What the files of the kernel don't say is left out. One thread.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from busmon.exporter.checks.findings import Usage

ROOT = Path("/")

CPU_SPAN_SECONDS = 60.0
"""How far back the CPU's share looks, and how long it isn't known at first: a burst is what a CPU is for."""


class Spent(NamedTuple):
    """CPU time spent so far and what could have been, in seconds of any beginning."""

    used: float
    available: float


class _Reading(NamedTuple):
    at: float
    by_limit: dict[str, Spent]


class Resources:
    """Reads all three.

    Args:
        disk: a path on the file system that counts.
        thresholds: the share of each resource above which it is too much.
        root: where the kernel's files are.
        clock: seconds that never step back.
    """

    def __init__(
        self,
        disk: Path,
        thresholds: Mapping[str, float],
        root: Path = ROOT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._disk = disk
        self._thresholds = thresholds
        self._root = root
        self._clock = clock
        self._spent = deque([self._cpu_spent()])

    def read(self) -> tuple[Usage, ...]:
        """The shares in use now; of the CPU, over the last minute."""
        ratios = {"memory": self._memory(), "disk": self._disk_ratio(), "cpu": self._cpu()}
        at = time.time()
        return tuple(
            Usage(resource, ratio, self._thresholds[resource], at)
            for resource, ratio in ratios.items()
            if ratio is not None
        )

    # -- memory -------------------------------------------------------------------------------------------------------

    def _memory(self) -> float | None:
        shares = [used / limit for used, limit in self._memory_limits()]
        return max(shares, default=None) if shares else self._machine_memory()

    def _memory_limits(self) -> Iterator[tuple[float, float]]:
        """Use and limit of each cgroup that has a limit; pages of files that the kernel would just drop aren't use."""
        machine = self._meminfo().get("MemTotal", 0)
        for group in self._groups("memory"):
            for names in (
                ("memory.current", "memory.max", "inactive_file"),
                ("memory.usage_in_bytes", "memory.limit_in_bytes", "total_inactive_file"),
            ):
                used, limit = (_number(group / name) for name in names[:2])
                # Without a limit, version 1 has a number that no machine reaches.
                if used is not None and limit and 0 < limit < (machine or math.inf):
                    yield max(0.0, used - _fields(group / "memory.stat").get(names[2], 0)), limit

    def _machine_memory(self) -> float | None:
        memory = self._meminfo()
        if not memory.get("MemTotal") or "MemAvailable" not in memory:
            return None
        return 1 - memory["MemAvailable"] / memory["MemTotal"]

    def _meminfo(self) -> dict[str, float]:
        return _fields(self._root / "proc/meminfo")

    # -- disk ---------------------------------------------------------------------------------------------------------

    def _disk_ratio(self) -> float | None:
        """As `df` has it: what root alone may use counts as neither used nor free."""
        try:
            stat = os.statvfs(self._disk)
        except OSError:
            return None
        used = stat.f_blocks - stat.f_bfree
        return used / (used + stat.f_bavail) if used + stat.f_bavail else None

    # -- CPU ----------------------------------------------------------------------------------------------------------

    def _cpu(self) -> float | None:
        now = self._cpu_spent()
        self._spent.append(now)
        while now.at - self._spent[1].at >= CPU_SPAN_SECONDS:
            self._spent.popleft()
        if now.at - self._spent[0].at < CPU_SPAN_SECONDS:
            return None
        then = self._spent[0].by_limit
        shares = [
            max(0.0, spent.used - then[limit].used) / available
            for limit, spent in now.by_limit.items()
            if limit in then and (available := spent.available - then[limit].available) > 0
        ]
        return max(shares, default=None)

    def _cpu_spent(self) -> _Reading:
        """By cgroup with a quota; by the machine alone where none has one."""
        limited = {str(group): spent for group in self._groups("cpu") if (spent := self._group_spent(group))}
        machine = self._machine_spent()
        return _Reading(self._clock(), limited or ({"machine": machine} if machine else {}))

    def _group_spent(self, group: Path) -> Spent | None:
        quota = _numbers(group / "cpu.max") or [
            *_numbers(group / "cpu.cfs_quota_us"),
            *_numbers(group / "cpu.cfs_period_us"),
        ]
        micros = _fields(group / "cpu.stat").get("usage_usec")
        nanos = _number(group / "cpuacct.usage")
        used = micros / 1e6 if micros is not None else None if nanos is None else nanos / 1e9
        if len(quota) != 2 or quota[0] <= 0 or quota[1] <= 0 or used is None:  # noqa: PLR2004 - a quota and its period
            return None
        return Spent(used, self._clock() * quota[0] / quota[1])

    def _machine_spent(self) -> Spent | None:
        """Of all cores, in ticks: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
        ticks = _numbers(self._root / "proc/stat")[:8]
        if len(ticks) < 5:  # noqa: PLR2004 - the first five have been there for ever
            return None
        return Spent(sum(ticks) - ticks[3] - ticks[4], sum(ticks))

    # -- cgroups ------------------------------------------------------------------------------------------------------

    def _groups(self, controller: str) -> Iterator[Path]:
        """The directories of the process's cgroup for a controller and of those around it, the innermost first.

        Inside a container the named one may not be there to see: its root then is the container's own.
        """
        mounts = self._root / "sys/fs/cgroup"
        for line in _lines(self._root / "proc/self/cgroup"):
            _, controllers, path = (*line.split(":", 2), "", "")[:3]
            if controllers and controller not in controllers.split(","):
                continue
            mount = mounts / controllers if controllers else mounts
            innermost = mount / path.lstrip("/")
            for group in (innermost, *innermost.parents):
                if group.is_relative_to(mount) and group.is_dir():
                    yield group


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []


def _numbers(path: Path) -> list[float]:
    """The numbers of a file's first line; words, such as `max` and `cpu`, are none."""
    words = " ".join(_lines(path)[:1]).split()
    return [float(word) for word in words if word.lstrip("-").isdigit()]


def _number(path: Path) -> float | None:
    return next(iter(_numbers(path)), None)


def _fields(path: Path) -> dict[str, float]:
    """The numbers of a file with a name and a number on each line; those in kB are given in bytes."""
    found = {}
    for line in _lines(path):
        name, number, *unit = (*line.replace(":", " ").split(), "", "")[:3]
        if number.isdigit():
            found[name] = float(number) * (1024 if unit == ["kB"] else 1)
    return found
