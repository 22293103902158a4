"""Scrapes one host all the while, on a thread of its own, and complains about every scrape that isn't right.

A scrape may fail only while the exporter that was killed is being replaced. The exporter of a replicated host may
refuse scrapes while a replica is read from its log. No counter of the next scrape may be below the last one's.
"""

import http.client
import time
import urllib.error
from collections.abc import Sequence
from threading import Event, Lock, Thread
from typing import Self

from tests.soak.host import Host
from tests.soak.notes import Notes
from tests.soak.processes import command
from tests.soak.scrape import Scrape, fetch

INTERVAL_SECONDS = 0.2
OUTAGE_SECONDS = 120.0
"""How long after the last fault a machine with more to do than it can may be without an exporter, or refuse scrapes."""

UNAVAILABLE = "503: "
REASONS = ("is still being read from its log", "that its replicas are whole")
"""The words with which an exporter refuses to show a part of the totals."""


class Watch:
    """The scraper.

    Args:
        host: whom it scrapes.
        raw_publishers: whose series are compared with one another in each scrape.
        notes: takes the complaints.

    Attributes:
        scrapes: how many succeeded.
        refusals: how many were refused, since a replica was being read.
    """

    def __init__(self, host: Host, raw_publishers: Sequence[str], notes: Notes) -> None:
        self.host = host
        self.scrapes = self.refusals = 0
        self._agents = [*raw_publishers]
        self._notes = notes
        self._lock = Lock()
        self._gone: dict[int, float] = {}
        self._disturbed_at = time.monotonic()
        self._last = Scrape()
        self._last_text = ""
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def expect_outage(self) -> None:
        """The exporter is about to be killed, or was never up; until it has ended and another answers, scrapes fail."""
        self.expect_refusals()
        with self._lock:
            self._gone[self.host.fleet.children().get("exporter", self.host.fleet.pid)] = time.monotonic()

    def expect_refusals(self) -> None:
        """A worker is about to have a fault, so a replica may have to be read from its log."""
        self._disturbed_at = time.monotonic()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self._scrape()

    def _scrape(self) -> None:
        replaced = self._ended_exporters()
        try:
            text = fetch(self.host.address)
        except urllib.error.HTTPError as error:
            self._refused(f"{error.code}: {error.read().decode().strip()}")
        except (OSError, http.client.HTTPException) as error:
            self._failed(error)
        else:
            with self._lock:
                for exporter in replaced:
                    del self._gone[exporter]
            self._check(text)

    def _ended_exporters(self) -> list[int]:
        """Those that are gone already, so that whoever answers now is another."""
        with self._lock:
            return [exporter for exporter in self._gone if not command(exporter)]

    def _refused(self, answer: str) -> None:
        is_incomplete = answer.startswith(UNAVAILABLE) and any(reason in answer for reason in REASONS)
        if not (self.host.is_replicated and is_incomplete):
            self._complain(f"a scrape was answered with {answer}")
            return
        self.refusals += 1
        if time.monotonic() - self._disturbed_at > OUTAGE_SECONDS:
            self._complain(f"a scrape is refused {OUTAGE_SECONDS:g} s after the host's last fault: {answer}")

    def _failed(self, error: Exception) -> None:
        with self._lock:
            since = max(self._gone.values(), default=None)
        if since is None:
            self._complain(f"a scrape failed, though the exporter is up: {error!r}")
        elif time.monotonic() - since > OUTAGE_SECONDS:
            self._complain(f"no exporter for {OUTAGE_SECONDS:g} s: {error!r}")

    def _check(self, text: str) -> None:
        scrape = Scrape.parse(text)
        found = [*scrape.contradictions(self._agents), *scrape.setbacks(self._last)]
        for line in found:
            self._complain(f"scrape {self.scrapes}: {line}")
        if found:
            (self.host.directory / f"scrape-{self.scrapes}-before.txt").write_text(self._last_text)
            (self.host.directory / f"scrape-{self.scrapes}.txt").write_text(text)
        self._last, self._last_text = scrape, text
        self.scrapes += 1

    def _complain(self, line: str) -> None:
        self._notes.complain(f"{self.host.name}: {line}")
