"""`make pictures`: the live page and `busmon top`, photographed over a fleet that a simulated platform publishes to.

Writes docs/page-light.png, page-dark.png, page-phone.png and top.svg. Takes three minutes, so that the lines have
something to show. Whatever it started is ended when it returns.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Literal

import orjson
import pika
from playwright.sync_api import Browser
from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from busmon.demo.broker import PrivateNode
from busmon.top import screen
from busmon.top.client import Client
from tests import pictured
from tests.browser import chromium
from tests.browser.conftest import free_address
from tests.browser.looked_at import DESKTOP, PHONE, opened
from tests.fleet.publishing import properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.pictured import DOCS

SECONDS = 150.0
SCRAPE_SECONDS = 5.0
TWO_PHONES = (PHONE[0], 2 * PHONE[1])


def main() -> None:
    """Take all pictures."""
    with (
        tempfile.TemporaryDirectory(prefix="busmon-pictures-", dir="/var/tmp") as directory,
        PrivateNode(Path(directory) / "rabbitmq") as node,
        RealFleet(Path(directory), node.amqp_url, BUSMON_LISTEN=free_address(), BUSMON_CPU_THRESHOLD="1") as fleet,
        platform(node.amqp_url),
        chromium.running() as browser,
    ):
        publish(node.amqp_url, what_finds_no_room())
        live(fleet, SECONDS)
        for scheme in ("light", "dark"):
            photograph(browser, fleet, f"page-{scheme}.png", DESKTOP, scheme)
        photograph(browser, fleet, "page-phone.png", TWO_PHONES, "light")
        draw_top(fleet)


@contextmanager
def platform(amqp_url: str) -> Iterator[None]:
    """Agents that publish until the block ends."""
    command = (sys.executable, "-m", "busmon", "simulate", "--agents", "9", "--rate", "6")
    environment = {**os.environ, "BUSMON_AMQP_URL": amqp_url, "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.5"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def what_finds_no_room() -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Publish as an agent that takes an identifier for a label, counts backwards, and sends an invalid body."""
    for number in range(130):
        labels = {"endpoint": f"/users/{number}", "method": "GET", "status": "200"}
        requests = {"name": "api_requests_total", "labels": labels, "value": 1}
        tasks = {"name": "tasks_processed_total", "labels": {"agent": "importer", "status": "success"}, "value": -1}
        samples = [requests, tasks] if number % 10 == 0 else [requests]
        document = {"v": 1, "source": "importer-1", "agent": "importer", "ts": time.time(), "samples": samples}
        yield orjson.dumps(document), properties("importer-1", f"importer-1:{number + 1}")
    yield b"no envelope", properties("importer-1", None)


def live(fleet: RealFleet, seconds: float) -> None:
    """Scrape and look, as Prometheus and a viewer do, for so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        fleet.get("/metrics")
        for _ in range(int(SCRAPE_SECONDS)):
            fleet.get("/overview")
            time.sleep(1)


def photograph(
    browser: Browser, fleet: RealFleet, name: str, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    """One picture of the page as it is now."""
    with opened(browser, fleet.address, size=size, scheme=scheme) as page:
        page.wait_for_timeout(2000)
        pictured.write(DOCS / name, page.screenshot(scale="css"))
        print(DOCS / name)


def draw_top(fleet: RealFleet) -> None:
    """The terminal's view, 40 lines tall."""
    console = Console(width=100, height=40, file=StringIO(), record=True, force_terminal=True)
    console.print(screen.frame(Client(fleet.address).overview(), lines=40))
    picture = console.export_svg(title="busmon top", theme=DIMMED_MONOKAI)
    # Rich names fonts of another host; the reader's own will do.
    pictured.write(DOCS / "top.svg", re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).encode())
    print(DOCS / "top.svg")


if __name__ == "__main__":
    main()
