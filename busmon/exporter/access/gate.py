"""The gate before the app: who may ask, how often, and what every answer says and takes.

An answer is handed over piece by piece, so that one that isn't read holds no more than a piece in memory, and has a
deadline unless it is an endless stream. An ASGI application around another; lives on the event loop.
"""

import asyncio
import time

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from busmon.exporter.access.access import Access, Terms
from busmon.exporter.access.authentication import BusyError

ANSWER_SECONDS = 30.0
"""How long an answer may take, to be made and to be read; Prometheus waits for 10 s unless told otherwise."""

PIECE_BYTES = 65_536
"""At once to a transport, which uvicorn then waits for."""


class Gate:
    """Lets through to the app what meets the terms.

    Args:
        app: answers what is let through.
        access: says what the terms are now.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it.

        Raises:
            TimeoutError: the answer began and wasn't read in time; the server cuts the connection off.
        """
        terms = self._access.terms
        refusal = await self._refusal(Headers(scope=scope), scope["path"], terms)
        answer = _Answer(send, terms)
        try:
            async with asyncio.timeout(ANSWER_SECONDS) as answer.limit:
                await (refusal or self._app)(scope, receive, answer)
        except TimeoutError:
            if answer.begun:
                raise
            await _add_headers(503, "busmon can't answer this in time\n")(scope, receive, answer)

    async def _refusal(self, headers: Headers, path: str, terms: Terms) -> Response | None:
        """Build the answer to a refused request."""
        reason, refusal = await _judge(headers, path, terms)
        if reason:
            self._access.refused[reason] += 1
        return refusal


async def _judge(headers: Headers, path: str, terms: Terms) -> tuple[str, Response | None]:
    if terms.bucket and not terms.bucket.allows(time.monotonic()):
        return "rate_limited", _add_headers(429, "Too Many Requests\n", **{"Retry-After": "1"})
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        return "body", _add_headers(413, "busmon takes no request with a body\n", Connection="close")
    if terms.authentication is None or path in terms.open_paths:
        return "", None
    try:
        known = await terms.authentication.knows(headers.get("authorization", "").encode("latin-1"))
    except BusyError:
        return "busy", _add_headers(503, "too many passwords are being checked; try again\n", **{"Retry-After": "5"})
    if known:
        return "", None
    challenge = {"WWW-Authenticate": terms.authentication.challenge}
    return "unauthenticated", _add_headers(401, "Unauthorized\n", **challenge)


class _Answer:
    """The app's answer on its way to the server."""

    def __init__(self, send: Send, terms: Terms) -> None:
        self.begun = False
        self.limit: asyncio.Timeout
        self._send = send
        self._terms = terms

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
            return
        body, more = memoryview(message.get("body", b"")), message.get("more_body", False)
        for start in range(0, len(body), PIECE_BYTES):
            piece = body[start : start + PIECE_BYTES]  # copied when it is written
            last = start + PIECE_BYTES >= len(body)
            await self._send({"type": message["type"], "body": piece, "more_body": more or not last})
            if more or not last:
                # Others have their turns, and the server learns that a client is gone, before the next piece.
                await asyncio.sleep(0)
        if not body:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        self.begun = True
        said = {name for name, _ in message["headers"]}
        if (b"content-type", b"text/event-stream; charset=utf-8") in message["headers"]:
            self.limit.reschedule(None)
        added = [header for header in self._terms.headers if header[0] not in said]
        await self._send({**message, "headers": [*message["headers"], *added]})


def _add_headers(status: int, line: str, **headers: str) -> Response:
    return PlainTextResponse(line, status, headers={"Cache-Control": "no-store", **headers})
