"""The exporter's HTTP surface: one route per question, each answer made by the room that knows it.

Every path answers GET and HEAD only. No answer holds a stack trace: what fails unexpectedly is logged, and told in one
line. Runs on the event loop; all reading of shard files is the scrape's, in its thread.
"""

import time
from collections.abc import Mapping

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from busmon import __version__, status
from busmon.exporter import health, rollcall
from busmon.exporter.health import Document
from busmon.exporter.landing import PAGE
from busmon.exporter.negotiation import accepts_gzip, choose_format
from busmon.exporter.overview import overview
from busmon.exporter.rollcall import RollCall
from busmon.exporter.scrape import Scrape
from busmon.settings import Settings

log = structlog.get_logger(__name__)

_UNAVAILABLE = 503


class App:
    """The routes.

    Args:
        settings: whose registry directory is served.
        address: `host:port` as a scraper reaches it.
    """

    def __init__(self, settings: Settings, address: str) -> None:
        self._registry_dir = settings.registry_dir
        self._address = f"http://{address}/metrics"
        self._scrape = Scrape(settings)
        self._started_at = time.time()

    def starlette(self) -> Starlette:
        """The ASGI application."""
        routes = {
            "/": self.landing,
            "/metrics": self.metrics,
            "/health": self.health,
            "/ready": self.ready,
            "/overview": self.overview,
            "/-/healthy": self.healthy,
            "/-/ready": self.plainly_ready,
        }
        app = Starlette(
            routes=[Route(path, endpoint) for path, endpoint in routes.items()],
            exception_handlers={Exception: _failed},
        )
        app.router.redirect_slashes = False
        return app

    async def landing(self, _: Request) -> Response:
        """What there is to ask for."""
        return HTMLResponse(PAGE)

    async def metrics(self, request: Request) -> Response:
        """The exposition, as the scraper negotiates it, or the families and samples that it names by `name[]`."""
        form = choose_format(request.headers.get("accept", ""))
        compressed = accepts_gzip(request.headers.get("accept-encoding", ""))
        names = frozenset(request.query_params.getlist("name[]"))
        headers = {"Content-Type": form.value, "Vary": "Accept, Accept-Encoding"}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        return Response(await self._scrape.page(form, compressed=compressed, names=names), headers=headers)

    async def health(self, _: Request) -> Response:
        """Alive or dead."""
        document = self._liveness()
        return _judged(document, good=document["status"] == "alive")

    async def ready(self, _: Request) -> Response:
        """Ready or not, and why."""
        document = health.readiness(self._roll())
        return _judged(document, good=document["status"] == "ready")

    async def healthy(self, _: Request) -> Response:
        """Prometheus' own form of `/health`."""
        alive = self._liveness()["status"] == "alive"
        return _plain("busmon is Healthy.\n" if alive else "busmon is not Healthy.\n", good=alive)

    async def plainly_ready(self, _: Request) -> Response:
        """Prometheus' own form of `/ready`."""
        ready = health.readiness(self._roll())["status"] == "ready"
        return _plain("busmon is Ready.\n" if ready else "Service Unavailable\n", good=ready)

    async def overview(self, _: Request) -> Response:
        """What `busmon top` shows."""
        window = await self._scrape.window()
        model = overview(window, self._roll(), self._address, __version__, self._scrape.skipped)
        return JSONResponse(model.as_json(), headers=_FRESH)

    def _roll(self) -> RollCall:
        return rollcall.call(status.read(self._registry_dir), time.time())

    def _liveness(self) -> Document:
        return health.liveness(self._roll(), __version__, self._started_at)


_FRESH = {"Cache-Control": "no-store"}


def _judged(document: Mapping[str, object], *, good: bool) -> Response:
    return JSONResponse(document, 200 if good else _UNAVAILABLE, headers=_FRESH)


def _plain(line: str, *, good: bool) -> Response:
    return PlainTextResponse(line, 200 if good else _UNAVAILABLE, headers=_FRESH)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("app.request_failed", path=request.url.path, exc_info=error)
    return PlainTextResponse("busmon can't answer this; the exporter's log says why\n", 500)
