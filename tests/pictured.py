"""The pictures in docs/, and the sources that each shows: a picture carries the digest of its sources when it is drawn.

A PNG has the digest as a text chunk, an SVG as a comment at its end. A test compares them with the tree.
"""

import ast
from collections.abc import Iterator
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

from PIL import Image, PngImagePlugin

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
_KEY = "Sources"
_COMMENT = "<!-- sources: {} -->\n"


def sources_of(picture: Path) -> list[Path]:
    """List the files that a picture of docs/ shows."""
    if picture.parent.name == "dashboards":
        return [ROOT / f"docker/grafana/dashboards/{picture.stem}.json"]
    if picture.name == "top.svg":
        return [ROOT / "busmon/top/screen.py", ROOT / "busmon/top/tables.py"]
    return sorted(path for path in (ROOT / "busmon/exporter/page").iterdir() if path.suffix in {".html", ".css", ".js"})


def pictures() -> Iterator[Path]:
    """List the pictures that this module stamps."""
    yield from sorted(DOCS.glob("dashboards/*.png"))
    yield from sorted(DOCS.glob("page-*.png"))
    yield DOCS / "top.svg"


def digest(picture: Path) -> str:
    """Compute the digest of a picture's sources as they are now."""
    hashed = blake2b(digest_size=16)
    for path in sources_of(picture):
        hashed.update(_shown(path))
    return hashed.hexdigest()


def _shown(path: Path) -> bytes:
    """Read a source without what no picture shows: the imports, comments and layout of Python code."""
    if path.suffix != ".py":
        return path.read_bytes()
    body = ast.parse(path.read_text()).body
    return "\n".join(_dump(node) for node in body if not isinstance(node, ast.Import | ast.ImportFrom)).encode()


def _dump(node: object) -> str:
    """Write a syntax tree, the same in every version of Python: `ast.dump` also writes a new version's empty fields."""
    if isinstance(node, ast.AST):
        fields = (f"{name}={_dump(value)}" for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({', '.join(fields)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    return repr(node)


def write(picture: Path, drawn: bytes) -> None:
    """Write a picture with the digest of its sources; a PNG in 256 colours, which is a fifth of the bytes."""
    if picture.suffix == ".svg":
        picture.write_bytes(drawn.rstrip() + b"\n" + _COMMENT.format(digest(picture)).encode())
        return
    stamp = PngImagePlugin.PngInfo()
    stamp.add_text(_KEY, digest(picture))
    Image.open(BytesIO(drawn)).convert("RGB").quantize(256).save(picture, "PNG", optimize=True, pnginfo=stamp)


def stamped(picture: Path) -> str:
    """Read the digest that a picture carries; empty where there is none."""
    if picture.suffix == ".svg":
        *_, last = picture.read_text().rstrip().splitlines()
        prefix, _, suffix = _COMMENT.strip().partition("{}")
        return last.removeprefix(prefix).removesuffix(suffix) if last.startswith(prefix) else ""
    with Image.open(picture) as image:
        return str(image.info.get(_KEY, ""))
