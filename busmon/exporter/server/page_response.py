"""The answer to a scrape: the page in pieces, each noted as the client takes it, and held in memory until the last."""

from collections.abc import Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from busmon.exporter.access.gate import PIECE_BYTES
from busmon.exporter.metrics.held_pages import HeldPages


class PageResponse(Response):
    """One answer.

    Args:
        page: its body.
        headers: its headers.
        held: where the page counts meanwhile.
        address: of the client.
    """

    def __init__(self, page: bytes, headers: Mapping[str, str], held: HeldPages, address: str) -> None:
        super().__init__(page, headers=headers)
        self._page = page
        self._held = held
        self._address = address

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        page = memoryview(self._page)
        with self._held.hold(self._page, self._address) as answer:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for start in range(0, max(1, len(page)), PIECE_BYTES):  # an empty page, too, needs a last piece
                piece, more = page[start : start + PIECE_BYTES], start + PIECE_BYTES < len(page)
                await send({"type": "http.response.body", "body": piece, "more_body": more})
                self._held.note(answer)
