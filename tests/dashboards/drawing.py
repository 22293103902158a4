"""Draws dashboards in headless Chromium: a page of Grafana's own components, and a server that has what it asks for.

The server gives the page its script, the dashboards' JSON, and Prometheus' answers, all of one origin. Main thread; the
server has threads of its own and ends with its block.
"""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from playwright.sync_api import Browser
from playwright.sync_api import TimeoutError as TooLongError

HERE = Path(__file__).parent
DASHBOARDS = HERE.parents[1] / "docker/grafana/dashboards"
WIDTH = 1600
_FILES = {"/page.js": "text/javascript", "/page.css": "text/css"}

_HTML = b"""<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/page.css"><body style="margin:0">
<div id="root"></div><script type="module" src="/page.js"></script>"""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A drawn dashboard.

    Attributes:
        panels: `title`, `series` and, where it failed, `error` of each.
        complaints: what the page wrote to its console as errors.
        picture: PNG.
    """

    panels: tuple[dict[str, Any], ...]
    complaints: tuple[str, ...]
    picture: bytes


def bundle(directory: Path) -> None:
    """Make the page's script and style; the packages in `node_modules` are installed first where they are missing."""
    if not (HERE / "node_modules/.package-lock.json").exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)
    command = ["npm", "run", "--silent", "build", "--", f"--outfile={directory / 'page.js'}"]
    subprocess.run(command, cwd=HERE, check=True)


@contextmanager
def served(directory: Path, prometheus: str) -> Iterator[str]:
    """Serve the page and a Prometheus' answers at one address, and yield it."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/"):
                self._forward()
            elif path.startswith("/dashboards/"):
                self._answer((DASHBOARDS / Path(path).name).read_bytes(), "application/json")
            elif path == "/":
                self._answer(_HTML, "text/html")
            elif path in _FILES:
                self._answer((directory / path[1:]).read_bytes(), _FILES[path])
            else:
                self._answer(b"", "text/plain", HTTPStatus.NO_CONTENT)

        def _forward(self) -> None:
            try:
                with urllib.request.urlopen(prometheus + self.path, timeout=60) as answer:  # noqa: S310 - our own, over HTTP
                    self._answer(answer.read(), "application/json")
            except urllib.error.HTTPError as error:
                self._answer(error.read(), "application/json")

        def _answer(self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing of requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def draw(chromium: Browser, address: str, dashboard: str, start: float, end: float) -> Drawing:
    """One dashboard over a time range."""
    page = chromium.new_page(viewport={"width": WIDTH, "height": 1200})
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{address}/?dashboard={dashboard}&from={start}&to={end}")
    try:
        page.wait_for_function("window.drawn", timeout=30_000)
    except TooLongError as error:
        raise AssertionError(f"{dashboard} was not drawn: {complaints}") from error
    panels = page.evaluate("window.drawn")
    picture = page.screenshot(full_page=True)
    page.close()
    return Drawing(tuple(panels), tuple(complaints), picture)
