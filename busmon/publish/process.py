"""The resources of this process: memory, CPU, disk and network, read by psutil at an interval as metrics of the agent.

psutil is an extra (`process`), imported when a process is first watched. On the
publishing thread; a forked child goes on with figures of its own.
"""

import codecs
import os
from typing import Any

from busmon import cgroups, extras
from busmon.publish.definitions import Definitions
from busmon.publish.instruments import Counter

# Imported with this module, and not on the publishing thread: a fork in the middle of an import hangs the child.
codecs.lookup("ascii")


class Growth:
    """A total that is counted elsewhere, as increments of a counter. A total that fell began again at 0."""

    def __init__(self, counter: Counter, total: float = 0.0) -> None:
        self._counter = counter
        self._total = total

    def reach(self, total: float) -> None:
        """Count what was added since the last time."""
        grown = total - self._total if total >= self._total else total
        self._total = total
        if grown:
            self._counter.inc(grown)


class Process:
    """The figures of the process that it is read in.

    Args:
        definitions: make what it is counted by.
        agent: the name under which it is.
        network: count the bytes of the network namespace, too. They are this agent's only where it is alone in there.

    Raises:
        MissingExtraError: psutil isn't installed.
    """

    def __init__(self, definitions: Definitions, agent: str, *, network: bool) -> None:
        extras.require("process", "watch_process")
        import psutil  # noqa: PLC0415 - of the extra

        self._psutil: Any = psutil
        self._definitions = definitions
        self._agent = agent
        self._network = network
        self._memory = definitions.gauge("agent_memory_usage_bytes", labelnames=["agent"], domain="system").labels(
            agent
        )
        self._limit = definitions.gauge("agent_memory_limit_bytes", labelnames=["agent"], domain="system").labels(agent)
        self._begin()

    def read(self) -> None:
        """Look at the process."""
        if os.getpid() != self._pid:
            self._begin()
        times = self._process.cpu_times()
        self._cpu.reach(times.user + times.system)
        self._memory.set(self._process.memory_info().rss)
        self._limit.set(self._memory_limit())
        if self._disk is not None:
            used = self._process.io_counters()
            self._disk[0].reach(used.read_bytes)
            self._disk[1].reach(used.write_bytes)
        if self._network:
            bytes_ = self._psutil.net_io_counters()
            self._received.reach(bytes_.bytes_recv)
            self._sent.reach(bytes_.bytes_sent)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._process = self._psutil.Process()
        self._cpu = Growth(self._counter("agent_cpu_seconds_total"))
        has_disk = hasattr(self._process, "io_counters")
        read, written = "agent_disk_read_bytes_total", "agent_disk_written_bytes_total"
        self._disk = (Growth(self._counter(read)), Growth(self._counter(written))) if has_disk else None
        if self._network:
            # The namespace is older than the process, and a child's parent counts on.
            bytes_ = self._psutil.net_io_counters()
            self._received = Growth(self._counter("agent_network_receive_bytes_total"), bytes_.bytes_recv)
            self._sent = Growth(self._counter("agent_network_transmit_bytes_total"), bytes_.bytes_sent)

    def _counter(self, name: str) -> Counter:
        return self._definitions.counter(name, labelnames=["agent"], domain="system").labels(self._agent)

    def _memory_limit(self) -> int:
        """Return the lowest of what the cgroups, the process' own limit and the machine allow."""
        limits: list[int] = [self._psutil.virtual_memory().total]
        limits += [int(found.limit) for found in cgroups.memory_limits()]
        own: int = self._process.rlimit(self._psutil.RLIMIT_AS)[0] if hasattr(self._process, "rlimit") else -1
        return min(limit for limit in (*limits, own) if limit > 0)
