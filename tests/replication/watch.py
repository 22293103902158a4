"""A watch over the exporters of several hosts: no counter of a host ever goes down, whatever happens to the hosts."""

from __future__ import annotations

import threading
import time
import urllib.error
from typing import TYPE_CHECKING, Self

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from tests.fleet.replicated import Host


class Watch:
    """Scrapes hosts all the time; a context manager.

    Attributes:
        faults: counters that went down, a line each.
        scrapes: how many succeeded.
    """

    def __init__(self, *hosts: Host) -> None:
        self.faults: list[str] = []
        self.scrapes = 0
        self._hosts = hosts
        self._last: dict[tuple[str, str], float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        assert self.scrapes
        assert not self.faults

    def _run(self) -> None:
        while not self._is_over.wait(0.05):
            for host in self._hosts:
                self._scrape(host)

    def _scrape(self, host: Host) -> None:
        try:
            answer, body = host.get("/metrics")
        except (OSError, urllib.error.URLError):  # the host is dead, or starts
            return
        if answer != 200:
            return
        self.scrapes += 1
        for family in text_string_to_metric_families(body.decode()):
            # busmon's own metrics of a process begin again with the process.
            if family.type != "counter" or family.name.startswith(("busmon_", "process_")):
                continue
            for sample in family.samples:
                self._compare(str(host.log.parent), f"{sample.name}{sorted(sample.labels.items())}", sample.value)

    def _compare(self, host: str, series: str, value: float) -> None:
        before = self._last.get((host, series), 0.0)
        if value < before:
            self.faults.append(f"{time.time():.2f} {host}: {series} went from {before} to {value}")
        self._last[host, series] = value
