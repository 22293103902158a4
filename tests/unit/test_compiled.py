"""Compiled modules: found where they are built and may be used, and listed by name."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

import busmon
from busmon import cli, compiled
from busmon.errors import CompiledModuleError
from busmon.settings import SCHEMA
from hatch_build import are_up_to_date
from tests.unit.test_cli import run

PACKAGE = Path(busmon.__file__).parent
BUILT = "busmon_built"
"""A module that stands for a built extension: an extension is imported as every module is."""


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that is there."""
    (tmp_path / f"{BUILT}.py").write_text("answer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("BUSMON_PURE_PYTHON", raising=False)
    yield BUILT
    sys.modules.pop(BUILT, None)


def test_a_module_that_is_built_is_found(built: str) -> None:
    module = compiled.find(built)
    assert module
    assert module.answer == 42


def test_a_module_that_isnt_built_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUSMON_PURE_PYTHON", raising=False)
    assert compiled.find("busmon.registry.fold.no_such_module") is None


@pytest.mark.parametrize(("value", "found"), [("1", False), ("0", True), ("", True)])
def test_the_variable_leaves_it_unused(value: str, found: bool, built: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    monkeypatch.setenv("BUSMON_PURE_PYTHON", value)
    assert (compiled.find(built) is not None) is found


def test_a_setting_from_a_flag_or_a_file_counts_as_the_variable_does(
    built: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUSMON_PURE_PYTHON", "0")
    compiled.obey("1")
    assert compiled.find(built) is None
    compiled.obey("0")
    assert compiled.find(built) is not None


@pytest.mark.parametrize("command", ["tail", "quarantine list", "simulate --seconds 1"])
def test_a_command_takes_the_setting_of_a_file(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUSMON_PURE_PYTHON", raising=False)
    (tmp_path / "pure.toml").write_text("pure_python = 1\n")
    nowhere = {"BUSMON_AMQP_URL": "amqp://127.0.0.1:1", "PYTHONVERBOSE": "1"}
    for given, uses in (({}, compiled.is_in_use()), ({"BUSMON_CONFIG": str(tmp_path / "pure.toml")}, False)):
        done = run(*command.split(), env=nowhere | given)
        assert "Connection refused" in done.stderr
        assert ("# extension module 'busmon.bus.frames.compiled_peeler' loaded" in done.stderr) is uses


def test_a_module_that_cant_be_loaded_is_one_line_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUSMON_PURE_PYTHON", raising=False)
    (tmp_path / "busmon_broken.py").write_text("raise ImportError('undefined symbol')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CompiledModuleError) as raised:
        compiled.find("busmon_broken")
    assert str(raised.value) == (
        "the compiled module busmon_broken can't be loaded: undefined symbol; build and install busmon again, or set "
        "BUSMON_PURE_PYTHON=1, which leaves all compiled modules unused"
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A copy of the package in a directory as a clone is, where modules were built before their sources changed."""
    root = tmp_path / "a clone"
    shutil.copytree(PACKAGE, root / "busmon", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(PACKAGE.parent / "topology", root / "topology")
    (root / "hatch_build.py").touch()
    for name in compiled.MODULES:
        module = root / f"{name.replace('.', '/')}{sysconfig.get_config_var('EXT_SUFFIX')}"
        module.touch()
        os.utime(module, (0, 0))
    return root


def run_in(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the package that is in a directory."""
    environment = {name: text for name, text in os.environ.items() if name != "BUSMON_PURE_PYTHON"} | variables
    command = [sys.executable, *arguments]
    environment["PYTHONPATH"] = str(directory)
    return subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_modules_older_than_their_sources_are_one_line_with_its_remedy(clone: Path) -> None:
    line = (
        "busmon: compiled modules are older than their sources; run `make compile`, or set BUSMON_PURE_PYTHON=1, which "
        "leaves all compiled modules unused\n"
    )
    for command in (["up", "--listen", "127.0.0.1:0"], ["worker", "--shards", "0"]):
        done = run_in(clone, "-m", "busmon", *command)
        assert (done.returncode, done.stderr) == (2, line)


def test_the_version_tells_that_modules_are_older_than_their_sources(clone: Path) -> None:
    done = run_in(clone, "-m", "busmon", "--version")
    told = "compiled modules are older than their sources: run `make compile`"
    assert (done.returncode, done.stdout) == (0, f"busmon {busmon.__version__} ({told})\n")
    pure = run_in(clone, "-m", "busmon", "--version", BUSMON_PURE_PYTHON="1")
    assert pure.stdout == f"busmon {busmon.__version__} (pure Python)\n"


def test_an_agent_needs_no_compiled_module(clone: Path) -> None:
    assert run_in(clone, "-c", "from busmon import Telemetry").stderr == ""


def test_the_times_of_an_installations_files_mean_nothing(clone: Path) -> None:
    (clone / "hatch_build.py").unlink()
    command = "from busmon import compiled; print(compiled.find('busmon.registry.fold.cut'))"
    assert "the compiled module busmon.registry.fold.cut can't be loaded: " in run_in(clone, "-c", command).stderr


def test_they_are_in_use_if_every_one_is_built_and_may_be_used(built: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for modules, in_use in (((built,), True), ((built, "busmon.no_such_module"), False)):
        monkeypatch.setattr(compiled, "MODULES", modules)
        assert compiled.is_in_use() is in_use
    monkeypatch.setattr(compiled, "MODULES", (built,))
    monkeypatch.setenv("BUSMON_PURE_PYTHON", "1")
    assert not compiled.is_in_use()
    assert built not in sys.modules


def test_the_variable_is_the_settings() -> None:
    assert compiled.VARIABLE in {row.variable for row in SCHEMA}


def test_every_source_is_listed() -> None:
    sources = (path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.pyx"))
    assert sorted(compiled.MODULES) == sorted(".".join(path.parts) for path in sources)


def test_what_is_built_next_to_its_source_is_younger() -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    built = [path for path in map(find_path, compiled.MODULES) if path.name.endswith(suffix)]
    assert are_up_to_date(PACKAGE.parent, built), "run `make compile`"


def find_path(module: str) -> Path:
    """The file that a module is imported from; without one, its source."""
    spec = find_spec(module)
    return Path(spec.origin if spec and spec.origin else f"{module}.pyx")


def test_the_version_tells_whether_they_are_in_use(
    built: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for modules, told in (((built,), "compiled"), (("busmon.no_such_module",), "pure Python")):
        monkeypatch.setattr(compiled, "MODULES", modules)
        with pytest.raises(SystemExit):
            cli.main(["--version"])
        assert capsys.readouterr().out == f"busmon {busmon.__version__} ({told})\n"
    pure = run("--version", env={"BUSMON_PURE_PYTHON": "1"})
    assert (pure.returncode, pure.stdout) == (0, f"busmon {busmon.__version__} (pure Python)\n")
