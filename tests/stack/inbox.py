"""A webhook that takes what Alertmanager tells and forgets it, since nobody's real receivers are to hear of a try-out.

Its thread ends with the block. Loopback only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import yaml

from busmon.demo.rabbitmq import LOOPBACK


class _Inbox(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(HTTPStatus.OK)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[str]:
    """The webhook's URL, while it answers."""
    with ThreadingHTTPServer((LOOPBACK, 0), _Inbox) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{LOOPBACK}:{server.server_port}"
        finally:
            server.shutdown()


def address(configuration: Path, webhook: str) -> None:
    """Have each receiver of an Alertmanager's configuration be the webhook and nothing else: no secret is read."""
    document = yaml.safe_load(configuration.read_text())
    hook = {"url": webhook, "send_resolved": True}
    document["receivers"] = [{"name": each["name"], "webhook_configs": [hook]} for each in document["receivers"]]
    document["global"] = {"resolve_timeout": document["global"]["resolve_timeout"]}
    configuration.write_text(yaml.safe_dump(document))
