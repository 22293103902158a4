"""Middleware for ASGI and WSGI applications: how many requests, how long they took, how large they and the answers are.

A request's endpoint is its route, never its path, which anybody may choose. Any thread, any event loop.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from time import perf_counter
from typing import Any

from busmon.publish import Telemetry

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

UNROUTED = "unrouted"
"""The endpoint of a request that no route was found for."""

_METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_SERVER_ERROR = 500


class _Requests:
    def __init__(self, telemetry: Telemetry) -> None:
        domain = "system"
        duration = "api_request_duration_seconds"
        self._duration = telemetry.histogram(duration, "", ["endpoint", "method"], domain=domain)
        self._requests = telemetry.counter("api_requests_total", "", ["endpoint", "method", "status"], domain=domain)
        self._request_size = telemetry.summary("request_size_bytes", domain=domain)
        self._response_size = telemetry.summary("response_size_bytes", domain=domain)

    def note(self, endpoint: str, method: str, status: int, request: "_Request") -> None:
        method = method if method in _METHODS else "other"
        self._duration.labels(endpoint, method).observe(perf_counter() - request.began)
        self._requests.labels(endpoint, method, f"{status // 100}xx").inc()
        self._request_size.observe(request.received)
        self._response_size.observe(request.sent)


class _Request:
    __slots__ = ("began", "received", "sent", "status")

    def __init__(self) -> None:
        self.began = perf_counter()
        self.received = self.sent = 0
        self.status = _SERVER_ERROR  # what the server answers for an application that fails


class ASGIMiddleware:
    """Measures the HTTP requests of an ASGI application: `app.add_middleware(ASGIMiddleware, telemetry=telemetry)`.

    Args:
        app: the application.
        telemetry: what publishes the figures.
        endpoint: names a request's endpoint, asked when it is answered; by default the path of its route, where the
            framework leaves that in the scope, as Starlette and FastAPI do, or else the name of its endpoint function.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        telemetry: Telemetry,
        endpoint: Callable[[Scope], str] | None = None,
    ) -> None:
        self._app = app
        self._requests = _Requests(telemetry)
        self._endpoint = endpoint or _route_of_scope

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request()

        async def receive_part() -> MutableMapping[str, Any]:
            part = await receive()
            request.received += len(part.get("body", b""))
            return part

        async def send_part(part: MutableMapping[str, Any]) -> None:
            request.status = part.get("status", request.status)
            request.sent += len(part.get("body", b""))
            await send(part)

        try:
            await self._app(scope, receive_part, send_part)
        finally:
            self._requests.note(self._endpoint(scope), scope["method"], request.status, request)


class WSGIMiddleware:
    """Measures the requests of a WSGI application: `app.wsgi_app = WSGIMiddleware(app.wsgi_app, telemetry)`.

    Args:
        app: the application.
        telemetry: what publishes the figures.
        endpoint: names a request's endpoint from its environ, asked when it is answered; by default the rule that Flask
            found for it.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        telemetry: Telemetry,
        endpoint: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self._app = app
        self._requests = _Requests(telemetry)
        self._endpoint = endpoint or _rule_of_environ

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Pass a request on, and note what became of it when its answer was read."""
        request = _Request()
        request.received = int(environ.get("CONTENT_LENGTH") or 0)

        def start(status: str, *given: Any) -> Any:
            request.status = int(status.split(" ", 1)[0])
            return start_response(status, *given)

        return self._answer(environ, request, start)

    def _answer(self, environ: dict[str, Any], request: _Request, start: Callable[..., Any]) -> Iterator[bytes]:
        answer: Iterable[bytes] = ()
        try:
            answer = self._app(environ, start)
            for part in answer:
                request.sent += len(part)
                yield part
        finally:
            if hasattr(answer, "close"):
                answer.close()
            self._requests.note(self._endpoint(environ), environ["REQUEST_METHOD"], request.status, request)


def _route_of_scope(scope: Scope) -> str:
    path = getattr(scope.get("route"), "path", None)
    return str(path or getattr(scope.get("endpoint"), "__name__", UNROUTED))


def _rule_of_environ(environ: dict[str, Any]) -> str:
    rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
    return str(getattr(rule, "rule", UNROUTED))
