"""The exporter's HTTP surface: one route per question, each answer made by the room that knows it.

Every path answers GET and HEAD only. No answer holds a stack trace: what fails unexpectedly is logged, and told in one
line. Runs on the event loop; all reading of shard files is the scrape's, in its thread.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import orjson
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from busmon import __version__, status
from busmon.errors import ScrapeBusyError
from busmon.exporter import health, page, rollcall
from busmon.exporter.access.access import Access
from busmon.exporter.checks.findings import Findings
from busmon.exporter.health import Document
from busmon.exporter.negotiation import accepts_gzip, choose_format
from busmon.exporter.overview import Around, Overview, overview
from busmon.exporter.rollcall import RollCall
from busmon.exporter.scrape import SAMPLE_INTERVAL_SECONDS, Scrape
from busmon.exporter.viewers import Viewers
from busmon.settings import Settings

log = structlog.get_logger(__name__)

_UNAVAILABLE = 503


class App:
    """The routes.

    Args:
        settings: whose registry directory is served.
        address: `host:port` as a scraper reaches it.
        findings: gives what the checks last found, at once.
        access: who may read, which is for the gate before the app to see to; by default everyone.
    """

    def __init__(
        self,
        settings: Settings,
        address: str,
        findings: Callable[[], Findings] = Findings,
        access: Access | None = None,
    ) -> None:
        access = access or Access(None)
        self._registry_dir = settings.registry_dir
        self._address = f"{access.scheme}://{address}/metrics"
        self._findings = findings
        self._exchange = settings.exchange
        self._scrape = Scrape(settings, findings, access.families)
        self._viewers = Viewers(self._update)
        self._started_at = time.time()

    def starlette(self) -> Starlette:
        """The ASGI application."""
        routes = {
            "/metrics": self.metrics,
            "/health": self.health,
            "/ready": self.ready,
            "/overview": self.overview,
            "/overview/stream": self.stream,
            "/-/healthy": self.healthy,
            "/-/ready": self.plainly_ready,
        }
        app = Starlette(
            routes=[*page.routes(), *(Route(path, endpoint) for path, endpoint in routes.items())],
            exception_handlers={Exception: _failed, ScrapeBusyError: _busy},
        )
        app.router.redirect_slashes = False
        return app

    def reload(self) -> None:
        """Go by the catalogue as it stands now, from the next scrape on."""
        self._scrape.reload()

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
        """Alive, stopping or dead."""
        document = self._liveness()
        return _judged(document, good=document["status"] != "dead")

    async def ready(self, _: Request) -> Response:
        """Ready or not, and why."""
        document = self._readiness()
        return _judged(document, good=document["status"] == "ready")

    async def healthy(self, _: Request) -> Response:
        """Prometheus' own form of `/health`."""
        alive = self._liveness()["status"] != "dead"
        return _plain("busmon is Healthy.\n" if alive else "busmon is not Healthy.\n", good=alive)

    async def plainly_ready(self, _: Request) -> Response:
        """Prometheus' own form, for busmon alone: it counts and can be scraped, whatever else the platform lacks."""
        ready = not any(health.fleet_reasons(self._roll()))
        return _plain("busmon is Ready.\n" if ready else "Service Unavailable\n", good=ready)

    async def overview(self, _: Request) -> Response:
        """What `busmon top` shows; after a pause, that takes a second, since a rate needs two collections."""
        await self._scrape.follow()
        if not self._scrape.window.spans:
            await asyncio.sleep(SAMPLE_INTERVAL_SECONDS)
            await self._scrape.follow()
        return Response(orjson.dumps(self._overview()), media_type="application/json", headers=_FRESH)

    async def stream(self, request: Request) -> Response:
        """The same once a second, as server-sent events: what the page shows."""
        return self._viewers.stream(request.client.host if request.client else "")

    async def _update(self) -> bytes:
        await self._scrape.follow()
        return orjson.dumps(self._overview())

    def _overview(self) -> Overview:
        roll, scrape = self._roll(), self._scrape
        ready = health.readiness(roll, self._findings())
        around = Around(
            __version__,
            self._address,
            self._exchange,
            scrape.series_used,
            scrape.series_budget,
            scrape.scraped,
            scrape.skipped,
            scrape.rejected,
        )
        return overview(scrape.window, roll, self._liveness(), ready, around)

    def _roll(self) -> RollCall:
        return rollcall.call(status.read(self._registry_dir), time.time())

    def _readiness(self) -> Document:
        return health.readiness(self._roll(), self._findings())

    def _liveness(self) -> Document:
        return health.liveness(self._roll(), __version__, self._started_at)


_FRESH = {"Cache-Control": "no-store"}


def _judged(document: Mapping[str, object], *, good: bool) -> Response:
    return JSONResponse(document, 200 if good else _UNAVAILABLE, headers=_FRESH)


def _plain(line: str, *, good: bool) -> Response:
    return PlainTextResponse(line, 200 if good else _UNAVAILABLE, headers=_FRESH)


async def _busy(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}; try again\n", _UNAVAILABLE, headers={**_FRESH, "Retry-After": "1"})


async def _failed(request: Request, error: Exception) -> Response:
    log.error("app.request_failed", path=request.url.path, exc_info=error)
    return PlainTextResponse("busmon can't answer this; the exporter's log says why\n", 500)
