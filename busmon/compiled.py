"""The compiled modules of the hot path: their names, and the choice between them and pure Python.

A compiled module is an optional extension: a pure Python path does the same without it. Its user looks it up
once, at import, and the environment variable decides: imports know no settings. The command line sets the variable to
what the settings say (`obey`). Any thread.
"""

import os
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from busmon.errors import CompiledModuleError

VARIABLE = "BUSMON_PURE_PYTHON"
"""The variable of the setting `pure_python`: with 1, no compiled module is used."""

MODULES: Sequence[str] = (
    "busmon.bus.frames.compiled_peeler",
    "busmon.registry.ledger.compiled_usual_ids",
    "busmon.registry.fold.cut",
    "busmon.registry.fold.scanning",
    "busmon.wire.json_tokens",
)
"""The names of all compiled modules, one for each `.pyx` file of the package."""

_OUTDATED = "compiled modules are older than their sources"
_REMEDY = f"{{}}, or set {VARIABLE}=1, which leaves all compiled modules unused"


def find(name: str) -> ModuleType | None:
    """Import a compiled module, if this installation has it and may use it.

    Args:
        name: its full name, one of `MODULES`.

    Returns:
        None if it isn't built for this Python, or `BUSMON_PURE_PYTHON` is 1.

    Raises:
        CompiledModuleError: the module is there and can't be loaded, or compiled modules are older than their sources.
    """
    if not _may_be_used() or not _is_built(name):
        return None
    if _are_outdated():
        raise CompiledModuleError(f"{_OUTDATED}; {_REMEDY.format('run `make compile`')}")
    try:
        return import_module(name)
    except ImportError as error:
        remedy = _REMEDY.format("build and install busmon again")
        raise CompiledModuleError(f"the compiled module {name} can't be loaded: {error}; {remedy}") from error


def is_in_use() -> bool:
    """Tell whether `find` has every compiled module; imports none of them."""
    return _may_be_used() and all(map(_is_built, MODULES))


def describe() -> str:
    """Write in a few words how the hot path runs; imports no compiled module."""
    if _may_be_used() and _are_outdated():
        return f"{_OUTDATED}: run `make compile`"
    return "compiled" if is_in_use() else "pure Python"


def obey(pure_python: str) -> None:
    """Take the value of the setting `pure_python` for this process and its children, wherever it came from.

    It has to come before the first import of a module that calls `find`. The command line does so before it runs a
    command.
    """
    if _may_be_used() == (pure_python == "1"):
        os.environ[VARIABLE] = pure_python


def _may_be_used() -> bool:
    return os.environ.get(VARIABLE) != "1"


def _is_built(name: str) -> bool:
    return find_spec(name) is not None


@cache
def _are_outdated() -> bool:
    """Tell whether a module is older than any source, as after `git pull`. Only those in a clone can be."""
    package = Path(__file__).parent
    if not (package.parent / "hatch_build.py").exists():  # an installation: its files have the times of unpacking
        return False
    sources = (path for suffix in ("pyx", "pxd") for path in package.rglob(f"*.{suffix}"))
    youngest = max((path.stat().st_mtime_ns for path in sources), default=0)
    built = (Path(spec.origin) for spec in map(find_spec, MODULES) if spec and spec.origin)
    return any(path.stat().st_mtime_ns <= youngest for path in built)
