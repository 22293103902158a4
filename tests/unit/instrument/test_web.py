"""Requests are measured, whatever becomes of them, and their endpoint is never what somebody typed."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from busmon.instrument import ASGIMiddleware, WSGIMiddleware
from busmon.publish import Telemetry

from .conftest import Cells


async def greet(request: Request) -> PlainTextResponse:
    return PlainTextResponse(b"hello " + await request.body(), 201)


async def fail(_request: Request) -> PlainTextResponse:
    raise KeyError


async def ask(app: Any, method: str, path: str, body: bytes = b"") -> int:
    """One request; its status."""
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    async def send(part: Any) -> None:
        statuses.extend([part["status"]] if "status" in part else [])

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, receive, send)
    return statuses[0]


def test_an_asgi_applications_requests_are_measured(telemetry: Telemetry, cells: Cells) -> None:
    app = Starlette(routes=[Route("/tasks/{number}", greet, methods=["POST"]), Route("/fail", fail)])
    measured = ASGIMiddleware(app, telemetry)
    assert asyncio.run(ask(measured, "POST", "/tasks/7", b"you")) == 201
    assert asyncio.run(ask(measured, "BREW", "/anything")) == 404
    with pytest.raises(KeyError):
        asyncio.run(ask(measured, "GET", "/fail"))
    found = cells()
    assert {key[1:]: value for key, value in found.items() if key[0] == "api_requests_total"} == {
        ("/tasks/{number}", "POST", "2xx"): 1,
        ("unrouted", "other", "4xx"): 1,
        ("/fail", "GET", "5xx"): 1,
    }
    assert len(found["api_request_duration_seconds", "/tasks/{number}", "POST"]) == 1
    assert found["request_size_bytes",] == [3, 0, 0]
    assert found["response_size_bytes",][:2] == [len("hello you"), len("Not Found")]


def test_what_is_no_request_passes_untouched(telemetry: Telemetry, cells: Cells) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    asyncio.run(ASGIMiddleware(app, telemetry)({"type": "lifespan"}, len, len))  # type: ignore[arg-type]
    assert seen == [({"type": "lifespan"}, len, len)]
    assert cells() == {}


class Answer:
    """A WSGI answer that wants to be closed."""

    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from (b"hello ", b"you")

    def close(self) -> None:
        self.closed = True


def test_a_wsgi_applications_requests_are_measured(telemetry: Telemetry, cells: Cells) -> None:
    answer, started = Answer(), []

    def app(environ: Any, start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] == "GET":
            raise KeyError
        start_response("201 Created", [])
        return answer

    measured = WSGIMiddleware(app, telemetry)
    rule = SimpleNamespace(url_rule=SimpleNamespace(rule="/tasks/<number>"))
    environ = {"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "3", "werkzeug.request": rule}
    assert b"".join(measured(environ, lambda status, _: started.append(status))) == b"hello you"
    assert (started, answer.closed) == (["201 Created"], True)
    with pytest.raises(KeyError):
        list(measured({"REQUEST_METHOD": "GET"}, len))
    found = cells()
    assert found["api_requests_total", "/tasks/<number>", "POST", "2xx"] == 1
    assert found["api_requests_total", "unrouted", "GET", "5xx"] == 1
    assert (found["request_size_bytes",], found["response_size_bytes",]) == ([3, 0], [9, 0])
