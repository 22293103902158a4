"""The live page: static files that this package holds, served from memory.

They ask for nothing but `/overview/stream`, on the same host, and hold no script or style inline: the exporter's
content policy forbids a browser both, so that a name which a publisher made up can't become script.
"""

from importlib.resources import files
from pathlib import PurePath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HEADERS = {"Cache-Control": "no-cache"}
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_INDEX = "page.html"


def routes() -> list[Route]:
    """Return the routes of the page's files: the document at `/`, each other file by its name."""
    names = sorted(file.name for file in files(__package__).iterdir())
    return [_route(name) for name in names if PurePath(name).suffix in _MEDIA_TYPES]


def _route(name: str) -> Route:
    content = files(__package__).joinpath(name).read_bytes()
    media_type = _MEDIA_TYPES[PurePath(name).suffix]

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return Route("/" if name == _INDEX else f"/{name}", serve)
