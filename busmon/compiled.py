"""The compiled modules of the hot path: their names, and the choice between them and pure Python.

A compiled module is an optional extension: a pure Python path does the same without it. Its user looks it up
once, at import, and the environment variable decides: imports know no settings. The command line sets the variable to
what the settings say (`obey`). Any thread.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from busmon.errors import CompiledModuleError

VARIABLE = "BUSMON_PURE_PYTHON"
"""The variable of the setting `pure_python`: with 1, no compiled module is used."""

MODULES: Sequence[str] = (
    "busmon.bus.frames.compiled_peeler",
    "busmon.registry.fold.cut",
    "busmon.registry.fold.scanning",
    "busmon.wire.json_tokens",
)
"""The names of all compiled modules, one for each `.pyx` file of the package."""


def find(name: str) -> ModuleType | None:
    """Import a compiled module, if this installation has it and may use it.

    Args:
        name: its full name, one of `MODULES`.

    Returns:
        None if it isn't built for this Python, or `BUSMON_PURE_PYTHON` is 1.

    Raises:
        CompiledModuleError: the module is there and can't be loaded.
    """
    if not _may_be_used() or not _is_built(name):
        return None
    try:
        return import_module(name)
    except ImportError as error:
        remedy = f"build and install busmon again, or set {VARIABLE}=1, which leaves all compiled modules unused"
        raise CompiledModuleError(f"the compiled module {name} can't be loaded: {error}; {remedy}") from error


def is_in_use() -> bool:
    """Tell whether `find` has every compiled module; imports none of them."""
    return _may_be_used() and all(map(_is_built, MODULES))


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
