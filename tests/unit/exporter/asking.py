"""Asks an ASGI application, as a server would, without a server."""

import asyncio
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, NamedTuple

from starlette.applications import Starlette


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    app: Starlette, path: str, method: str = "GET", headers: Mapping[str, str] | None = None, query: str = ""
) -> Answer:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(part: MutableMapping[str, Any]) -> None:
        sent.append(part)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    # What an endpoint raises is answered first, and passed on for the server to see.
    with suppress(Exception):
        asyncio.run(app(scope, receive, send))
    start, *bodies = sent
    return Answer(
        start["status"],
        {name.decode(): value.decode() for name, value in start["headers"]},
        b"".join(part.get("body", b"") for part in bodies),
    )
