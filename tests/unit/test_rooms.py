"""No module and no room of the package imports what imports it."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import busmon

PACKAGE = Path(busmon.__file__).parent
Graph = Mapping[str, set[str]]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for kind in ("py", "pxd", "pyx") for path in PACKAGE.rglob(f"*.{kind}")}


def python_of(path: Path) -> str:
    """The source, of a compiled module only its imports."""
    text = path.read_text()
    if path.suffix == ".py":
        return text
    return "\n".join(line.replace(" cimport ", " import ") for line in text.splitlines() if line.startswith("from "))


def imported(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(python_of(MODULES[module]))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "busmon":
            for alias in node.names:
                yield inner if (inner := f"{node.module}.{alias.name}") in MODULES else str(node.module)


def room(module: str) -> str:
    """The folder of a module; the modules directly in the package are rooms of their own."""
    is_folder = MODULES[module].name == "__init__.py"
    folder = module if is_folder else module.rpartition(".")[0]
    return module if folder == "busmon" else folder


def by_room(graph: Graph) -> Graph:
    rooms: dict[str, set[str]] = {}
    for module, names in graph.items():
        rooms.setdefault(room(module), set()).update(room(name) for name in names if room(name) != room(module))
    return rooms


def cycle(graph: Graph) -> Iterable[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]  # type: ignore[no-any-return]
    return []


@pytest.fixture(scope="module")
def graph() -> Graph:
    return {module: {*imported(module)} - {module} for module in MODULES}


def test_no_module_imports_what_imports_it(graph: Graph) -> None:
    assert cycle(graph) == []


def test_no_room_imports_what_imports_it(graph: Graph) -> None:
    assert cycle(by_room(graph)) == []


def test_a_cycle_would_be_found() -> None:
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not cycle({"a": {"b"}, "b": {"c"}, "c": set()})
