# ruff: noqa: INP001 - a program, in no package
"""The receiver of alerts of the compose file's demo: a line on standard output for each alert, until SIGTERM.

It runs in the image's Python and needs no package. `docker compose logs inbox` shows who would have been told of what.
"""

import json
import signal
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 9095


class Inbox(BaseHTTPRequestHandler):
    """Takes Alertmanager's notifications."""

    def do_POST(self) -> None:
        """Print the alerts of a notification."""
        for line in lines(self.rfile.read(int(self.headers["Content-Length"]))):
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        self.send_response(HTTPStatus.OK)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log no request."""


def lines(body: bytes) -> Iterator[str]:
    """Describe each alert of a notification in a line, or a body that isn't Alertmanager's in one."""
    try:
        document: dict[str, Any] = json.loads(body)
        for alert in document["alerts"]:
            labels, summary = alert["labels"], alert["annotations"].get("summary", "")
            told = f"{alert['status']} {labels['alertname']} ({labels.get('tier', '-')})"
            yield f"{document['receiver']}: {told} {summary}"
    except (ValueError, KeyError, TypeError, AttributeError):
        yield f"invalid notification of {len(body)} bytes"


def main() -> None:
    """Serve until SIGTERM."""
    # Process 1 of a container ignores a signal that it doesn't handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ThreadingHTTPServer(("", PORT), Inbox) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
