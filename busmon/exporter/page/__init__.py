"""The live page: static files that this package holds, served from memory.

They ask for nothing but `/overview/stream`, on the same host, and hold no script or style inline: the exporter's
content policy forbids a browser both, so that a name which a publisher made up can't become script.
"""

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HEADERS = {"Cache-Control": "no-cache"}
_FILES = {
    "/": ("page.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.svg": ("page.svg", "image/svg+xml"),
}


def routes() -> list[Route]:
    """The page's paths."""
    return [_route(path, name, media_type) for path, (name, media_type) in _FILES.items()]


def _route(path: str, name: str, media_type: str) -> Route:
    content = files(__package__).joinpath(name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return Route(path, serve)
