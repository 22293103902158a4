"""The resources that this process may use, and the share of each in use: memory, disk, CPU.

Memory and CPU are held against the tightest limit of the cgroups that the process is in, version 1 or 2, as containers
and systemd set them, else against the machine's. What the files of the kernel don't say is left out. One thread.
"""

import math
import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from busmon import cgroups
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
        """Read the shares in use now; the CPU's is over the last minute."""
        ratios = {"memory": self._memory(), "disk": self._disk_ratio(), "cpu": self._cpu()}
        at = time.time()
        return tuple(
            Usage(resource, ratio, self._thresholds[resource], at)
            for resource, ratio in ratios.items()
            if ratio is not None
        )

    # -- memory -------------------------------------------------------------------------------------------------------

    def _memory(self) -> float | None:
        machine = self._meminfo().get("MemTotal", 0) or math.inf
        shares = [used / limit for used, limit in cgroups.memory_limits(machine, self._root)]
        return max(shares, default=None) if shares else self._machine_memory()

    def _machine_memory(self) -> float | None:
        memory = self._meminfo()
        if not memory.get("MemTotal") or "MemAvailable" not in memory:
            return None
        return 1 - memory["MemAvailable"] / memory["MemTotal"]

    def _meminfo(self) -> Mapping[str, float]:
        return cgroups.fields(self._root / "proc/meminfo")

    # -- disk ---------------------------------------------------------------------------------------------------------

    def _disk_ratio(self) -> float | None:
        """Read the disk's share in use, as `df` has it: blocks reserved for root count as neither used nor free."""
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
        """Read the CPU time by cgroup with a quota; without any quota, that of the machine."""
        limited = {
            str(group): spent for group in cgroups.groups("cpu", self._root) if (spent := self._group_spent(group))
        }
        machine = self._machine_spent()
        return _Reading(self._clock(), limited or ({"machine": machine} if machine else {}))

    def _group_spent(self, group: Path) -> Spent | None:
        quota = cgroups.numbers(group / "cpu.max") or [
            *cgroups.numbers(group / "cpu.cfs_quota_us"),
            *cgroups.numbers(group / "cpu.cfs_period_us"),
        ]
        micros = cgroups.fields(group / "cpu.stat").get("usage_usec")
        nanos = cgroups.number(group / "cpuacct.usage")
        used = micros / 1e6 if micros is not None else None if nanos is None else nanos / 1e9
        if len(quota) != 2 or quota[0] <= 0 or quota[1] <= 0 or used is None:  # noqa: PLR2004 - a quota and its period
            return None
        return Spent(used, self._clock() * quota[0] / quota[1])

    def _machine_spent(self) -> Spent | None:
        """Read the ticks of all cores: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
        ticks = cgroups.numbers(self._root / "proc/stat")[:8]
        if len(ticks) < 5:  # noqa: PLR2004 - the first five are in every kernel
            return None
        return Spent(sum(ticks) - ticks[3] - ticks[4], sum(ticks))
