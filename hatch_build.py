"""The build hook of the package: compiles the modules of the hot path, which are written in Cython.

Each `*.pyx` file of the package becomes an extension module: in the wheel, or for an editable install next to its
source. The package is complete without them. So a missing C compiler makes a pure wheel, with a line of warning, but a
source that doesn't compile is always an error. The variable `BUSMON_COMPILE` requires the modules or leaves them out.

Two builds of the same sources by the same tools give the same modules, wherever they run.
"""

import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.config import BuilderConfig
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VARIABLE = "BUSMON_COMPILE"
MODES = ("auto", "required", "off")
FLAGS = ("-O2", "-g0")
"""Added to Python's own. Debugging information would hold the path of a temporary directory."""


class CustomBuildHook(BuildHookInterface[BuilderConfig]):
    """The hook, as hatchling finds and calls it for a wheel. `version` is `editable` for an editable install."""

    _scratch: TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the modules and add them to the wheel."""
        root = Path(self.root)
        sources = sorted(path.relative_to(root) for path in root.glob("busmon/**/*.pyx"))
        modules = [source.with_name(source.stem + sysconfig.get_config_var("EXT_SUFFIX")) for source in sources]
        is_editable, mode = version == "editable", self._read_mode()
        is_built = is_editable and mode != "off" and are_up_to_date(root, modules)
        if is_editable:
            remove(find_orphans(root, modules))
        if not sources or not (is_built or self._may_compile(mode)):
            if is_editable:
                remove(root / module for module in modules)
            return
        build_data |= {"pure_python": False, "infer_tag": True}
        if is_built:
            return
        self._scratch = TemporaryDirectory(prefix="busmon-build-")
        built = compile_modules(root, sources, Path(self._scratch.name))
        if is_editable:
            for module in modules:
                replace(root / module, built / module)
        else:
            build_data["force_include"] |= {str(built / module): str(module) for module in modules}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove the temporary directory."""
        if self._scratch:
            self._scratch.cleanup()

    def _read_mode(self) -> str:
        mode = os.environ.get(VARIABLE) or "auto"
        if mode not in MODES:
            self.app.abort(f"{VARIABLE}={mode}: expected {', '.join(MODES[:-1])} or {MODES[-1]}")
        return mode

    def _may_compile(self, mode: str) -> bool:
        """Tell whether the modules are wanted and can be compiled; end the build if they are required and can't."""
        if mode == "off":
            return False
        if obstacle := find_obstacle():
            if mode == "required":
                self.app.abort(f"busmon's hot path can't be compiled: {obstacle}")
            self.app.display_warning(f"busmon is built in pure Python, without its compiled hot path: {obstacle}")
        return not obstacle


def find_obstacle() -> str:
    """Return the reason why no C can be compiled for this Python, in one line; empty if it can."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if shutil.which(compiler[0]) is None:
        return f"the C compiler {compiler[0]} isn't installed"
    if not header.exists():
        return f"Python's headers aren't installed: there is no {header}"
    command = [*compiler, "-fsyntax-only", f"-I{header.parent}", "-x", "c", "-"]
    tried = subprocess.run(command, input="#include <Python.h>\n", capture_output=True, text=True, check=False)  # noqa: S603
    if tried.returncode == 0:
        return ""
    lines = tried.stderr.splitlines() or [f"exit status {tried.returncode}"]
    return f"{shlex.join(compiler)} fails: {next((line for line in lines if 'error' in line), lines[-1])}"


def compile_modules(root: Path, sources: Sequence[Path], scratch: Path) -> Path:
    """Compile sources; return the directory that has the extension modules at their paths in the package.

    Args:
        root: the directory of the project.
        sources: paths in it. They are relative, since Cython takes them into the modules.
        scratch: an empty directory.

    Raises:
        Exception: Cython or the C compiler refuses a source. They have printed the reason.
    """
    from Cython.Build import cythonize  # noqa: PLC0415 - slow to import, and not needed for a pure wheel
    from setuptools import Distribution, Extension  # noqa: PLC0415 - as above
    from setuptools.command.build_ext import build_ext  # noqa: PLC0415 - as above

    with chdir(root):
        extensions = [
            Extension(".".join(source.with_suffix("").parts), [str(source)], extra_compile_args=[*FLAGS])
            for source in sources
        ]
        extensions = cythonize(extensions, build_dir=str(scratch), language_level=3, quiet=True)
        command = build_ext(Distribution({"ext_modules": extensions}))
        command.build_lib, command.build_temp = str(scratch / "lib"), str(scratch / "objects")
        command.ensure_finalized()
        command.run()
    return scratch / "lib"


def are_up_to_date(root: Path, modules: Iterable[Path]) -> bool:
    """Tell whether each module next to its source is younger than all that modules are made from."""
    sources = (path for pattern in ("*.pyx", "*.pxd") for path in root.glob(f"busmon/**/{pattern}"))
    youngest = max(path.stat().st_mtime_ns for path in (root / "hatch_build.py", *sources))
    built = [root / module for module in modules]
    return all(path.exists() and path.stat().st_mtime_ns > youngest for path in built)


def find_orphans(root: Path, modules: Iterable[Path]) -> set[Path]:
    """Find extension modules of this Python that have no source any more: they would hide a `.py` of the same name."""
    return set(root.glob(f"busmon/**/*{sysconfig.get_config_var('EXT_SUFFIX')}")) - {root / path for path in modules}


def replace(old: Path, new: Path) -> None:
    """Replace a file by a copy in one step: a process may have the old one in its memory."""
    copy = old.with_name(f"{old.name}.{os.getpid()}.so")
    shutil.copy(new, copy)
    copy.replace(old)


def remove(paths: Iterable[Path]) -> None:
    """Remove files that may be missing."""
    for path in paths:
        path.unlink(missing_ok=True)
