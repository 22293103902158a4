"""The exporter's HTTP surface: one route per question, each answer made by the room that knows it.

Every path answers GET and HEAD only. No answer holds a stack trace: what fails unexpectedly is logged, and told in one
line. Runs on the event loop; all reading of shard files is the scrape's, in its thread.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial

import orjson
import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from busmon import __version__, status
from busmon.errors import ReplicaIncompleteError, ScrapeBusyError
from busmon.exporter import page
from busmon.exporter.access.access import Access
from busmon.exporter.checks.findings import Findings
from busmon.exporter.metrics.held_pages import HeldPages
from busmon.exporter.metrics.negotiation import accepts_gzip, choose_format
from busmon.exporter.metrics.scrape import SAMPLE_INTERVAL_SECONDS, Scrape
from busmon.exporter.overview.overview import Overview, Surroundings, overview
from busmon.exporter.overview.viewers import Viewers
from busmon.exporter.readiness import documents, rollcall
from busmon.exporter.readiness.documents import Document
from busmon.exporter.readiness.rollcall import RollCall
from busmon.exporter.server.connection_limit import network
from busmon.exporter.server.page_response import PageResponse
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
        self._held = HeldPages(partial(access.note_cut, "crowded"))
        self._scrape = Scrape(settings, findings, access.families, self._held.make_room)
        self._viewers = Viewers(self._update)
        self._started_at = time.time()

    def starlette(self) -> Starlette:
        """Make the ASGI application."""
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
            exception_handlers={
                Exception: _answer_failure,
                ScrapeBusyError: _answer_busy,
                ReplicaIncompleteError: _answer_busy,
            },
        )
        app.router.redirect_slashes = False
        return app

    def reload(self) -> None:
        """Reload the catalogue before the next scrape."""
        self._scrape.reload()

    async def metrics(self, request: Request) -> Response:
        """Answer with the exposition in the negotiated format, or with the families and samples named by `name[]`."""
        form = choose_format(request.headers.get("accept", ""))
        compressed = accepts_gzip(request.headers.get("accept-encoding", ""))
        names = frozenset(request.query_params.getlist("name[]"))
        headers = {"Content-Type": form.value, "Vary": "Accept, Accept-Encoding"}
        if compressed:
            headers["Content-Encoding"] = "gzip"
        address = _address(request)
        page = await self._scrape.page(form, compressed=compressed, names=names, address=address)
        return PageResponse(page, headers, self._held, address)

    async def health(self, _: Request) -> Response:
        """Answer with the liveness document."""
        document = self._liveness()
        return _judge(document, good=document["status"] != "dead")

    async def ready(self, _: Request) -> Response:
        """Answer with the readiness document."""
        document = self._readiness()
        return _judge(document, good=document["status"] != documents.NOT_READY)

    async def healthy(self, _: Request) -> Response:
        """Answer as Prometheus' `/-/healthy` does."""
        alive = self._liveness()["status"] != "dead"
        return _plain("busmon is Healthy.\n" if alive else "busmon is not Healthy.\n", good=alive)

    async def plainly_ready(self, _: Request) -> Response:
        """Answer as Prometheus' `/-/ready` does, for busmon alone: the platform's other dependencies don't matter."""
        ready = not any(documents.fleet_reasons(self._roll()))
        return _plain("busmon is Ready.\n" if ready else "Service Unavailable\n", good=ready)

    async def overview(self, request: Request) -> Response:
        """Answer with the overview; after a pause this takes a second, since a rate needs two collections."""
        address = _address(request)
        await self._scrape.follow(address)
        if not self._scrape.window.spans:
            await asyncio.sleep(SAMPLE_INTERVAL_SECONDS)
            await self._scrape.follow(address)
        return Response(orjson.dumps(self._overview()), media_type="application/json", headers=_FRESH)

    async def stream(self, request: Request) -> Response:
        """Answer with the overview once a second, as server-sent events."""
        return self._viewers.stream(_address(request))

    async def _update(self) -> bytes:
        await self._scrape.follow()
        return orjson.dumps(self._overview())

    def _overview(self) -> Overview:
        roll, scrape = self._roll(), self._scrape
        ready = documents.readiness(roll, self._findings())
        surroundings = Surroundings(
            __version__,
            self._address,
            self._exchange,
            scrape.series_used,
            scrape.series_budget,
            scrape.scraped,
            scrape.skipped,
            scrape.rejected,
        )
        return overview(scrape.window, roll, self._liveness(), ready, surroundings)

    def _roll(self) -> RollCall:
        return rollcall.call(status.read(self._registry_dir), time.time())

    def _readiness(self) -> Document:
        return documents.readiness(self._roll(), self._findings())

    def _liveness(self) -> Document:
        return documents.liveness(self._roll(), __version__, self._started_at)


_FRESH = {"Cache-Control": "no-store"}


def _address(request: Request) -> str:
    return network(request.client.host) if request.client else ""


def _judge(document: Mapping[str, object], *, good: bool) -> Response:
    return JSONResponse(document, 200 if good else _UNAVAILABLE, headers=_FRESH)


def _plain(line: str, *, good: bool) -> Response:
    return PlainTextResponse(line, 200 if good else _UNAVAILABLE, headers=_FRESH)


async def _answer_busy(_: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}; try again\n", _UNAVAILABLE, headers={**_FRESH, "Retry-After": "1"})


async def _answer_failure(request: Request, error: Exception) -> Response:
    log.error("app.request_failed", path=request.url.path, exc_info=error)
    return PlainTextResponse("busmon can't answer this; the exporter's log says why\n", 500)
