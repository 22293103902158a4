"""Scrapes all the while, on a thread of its own, and complains about every scrape that isn't right.

A scrape may fail only while the exporter that was killed is being replaced. Notes and complaints are written to the
run's `watch.log` as they come.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Self

from tests.soak.processes import command
from tests.soak.scrape import Scrape

INTERVAL_SECONDS = 0.2
TIMEOUT_SECONDS = 10.0
OUTAGE_SECONDS = 60.0
"""How long after the last kill a machine with more to do than it can may still be without an exporter."""
MOST_COMPLAINTS = 100


class Watch:
    """The scraper.

    Args:
        address: the exporter's.
        raw_publishers: whose series are compared with one another in each scrape.
        directory: where the log goes, and the scrape that was complained about with the one before it.

    Attributes:
        scrapes: how many succeeded.
        complaints: what wasn't right.
    """

    def __init__(self, address: str, raw_publishers: Sequence[str], directory: Path) -> None:
        self.scrapes = 0
        self.complaints: list[str] = []
        self._url = f"http://{address}/metrics"
        self._agents = [*raw_publishers]
        self._directory = directory
        self._log = (directory / "watch.log").open("a", buffering=1)
        self._lock = Lock()
        self._gone: dict[int, float] = {}
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
        self._log.close()

    def note(self, line: str) -> None:
        """Remember what happened."""
        self._log.write(f"{time.strftime('%H:%M:%S')}.{time.time_ns() // 1_000_000 % 1000:03} {line}\n")

    def complain(self, line: str) -> None:
        """Fail the run."""
        self.note(f"COMPLAINT {line}")
        if len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(line)

    def expect_outage(self, exporter: int) -> None:
        """This process is about to be killed; until it has ended and another has answered, scrapes may fail."""
        with self._lock:
            self._gone[exporter] = time.monotonic()

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL_SECONDS):
            self._scrape()

    def _scrape(self) -> None:
        replaced = self._ended_exporters()
        try:
            text = fetch(self._url)
        except urllib.error.HTTPError as error:
            self.complain(f"a scrape was answered with status {error.code}")
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

    def _failed(self, error: Exception) -> None:
        with self._lock:
            since = max(self._gone.values(), default=None)
        if since is None:
            self.complain(f"a scrape failed, though the exporter is up: {error!r}")
        elif time.monotonic() - since > OUTAGE_SECONDS:
            self.complain(f"no exporter for {OUTAGE_SECONDS:g} s: {error!r}")

    def _check(self, text: str) -> None:
        scrape = Scrape.parse(text)
        found = [*scrape.contradictions(self._agents), *scrape.setbacks(self._last)]
        for line in found:
            self.complain(f"scrape {self.scrapes}: {line}")
        if found:
            (self._directory / f"scrape-{self.scrapes}-before.txt").write_text(self._last_text)
            (self._directory / f"scrape-{self.scrapes}.txt").write_text(text)
        self._last, self._last_text = scrape, text
        self.scrapes += 1


def fetch(url: str) -> str:
    """A page.

    Raises:
        OSError: there is none, or an `HTTPError` with the status of another answer than 200.
        http.client.HTTPException: the answer broke off.
    """
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - an address of the soak's own
        page: bytes = answer.read()
        return page.decode()
