"""The room of frames alone reaches into pika: nothing else of the package depends on its private parts."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[4] / "busmon"
FRAMES = PACKAGE / "bus" / "frames"
OF_NAMEDTUPLES = frozenset({"_replace", "_asdict", "_fields", "_make"})


def private_parts(text: str) -> Iterator[str]:
    """Yield the private names that are imported from pika, and private attributes of other classes than the text's."""
    nodes = [*ast.walk(ast.parse(text))]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute) and is_private(node.attr)]
    own = {node.attr for node in attributes if ast.unparse(node.value) in {"self", "cls", "super()"}}
    own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    yield from (ast.unparse(node) for node in attributes if node.attr not in own)
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pika"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names if is_private(alias.name))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in OF_NAMEDTUPLES


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("connection._terminate_stream(error)", ["connection._terminate_stream"]),
        ("self._connection._impl", ["self._connection._impl"]),
        ("from pika.channel import _X", ["pika.channel._X"]),
        ("self._connection.close()", []),
        ("step._replace(settled=True)", []),
    ],
)
def test_a_private_part_is_found(line: str, found: list[str]) -> None:
    assert [*private_parts(line)] == found


def test_only_the_room_of_frames_touches_private_parts_of_pika() -> None:
    outside = {path: path.read_text() for path in PACKAGE.rglob("*.py") if FRAMES not in path.parents}
    speakers = {
        str(path.relative_to(PACKAGE)): text for path, text in outside.items() if re.search("(from|import) pika", text)
    }
    assert "bus/connect/link.py" in speakers
    assert {path: found for path, text in speakers.items() if (found := [*private_parts(text)])} == {}
