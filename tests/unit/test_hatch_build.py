"""The build: compiled modules get into the wheel or next to their sources, and without a compiler the wheel is pure.

Each test builds a small package by the project's own hook and configuration, with the tools of `.venv`.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import hatch_build

PROJECT = Path(__file__).parents[2]
SOURCE = "busmon/registry/fold/adding.pyx"
BUILT = f"busmon/registry/fold/adding{sysconfig.get_config_var('EXT_SUFFIX')}"
FOREIGN = "busmon/registry/fold/adding.cpython-27-unknown.so"
CODE = '''
"""Adding, compiled."""

def add(int one, int other):
    """Add two numbers."""
    return one + other
'''
STUB = '''"""Adding, compiled."""

def add(one: int, other: int) -> int:
    """Add two numbers."""
'''
PURE, WARNING = "py3-none-any", "busmon is built in pure Python, without its compiled hot path: "


class Built(NamedTuple):
    """A build's end.

    Attributes:
        file: the wheel or source distribution; None if the build failed.
        log: what it said.
    """

    file: Path | None
    log: str

    @property
    def tag(self) -> str:
        assert self.file, self.log
        return self.file.stem.split("-", 2)[2]

    @property
    def names(self) -> set[str]:
        assert self.file, self.log
        return set(zipfile.ZipFile(self.file).namelist())


def make_project(directory: Path) -> Path:
    """Make a project with one compiled module, and with what earlier builds may have left next to it."""
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        directory.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, directory)
    (directory / SOURCE).parent.mkdir(parents=True)
    (directory / "topology").mkdir()
    (directory / "topology/telemetry.toml").touch()
    for package in ("busmon", "busmon/registry", "busmon/registry/fold"):
        (directory / package / "__init__.py").write_text("__version__ = '1.0'\n")
    (directory / SOURCE).write_text(CODE)
    (directory / SOURCE).with_suffix(".pyi").write_text(STUB)
    (directory / SOURCE).with_suffix(".pxd").touch()
    (directory / SOURCE).with_suffix(".c").touch()
    (directory / FOREIGN).touch()
    return directory


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "a project")


def build(project: Path, kind: str = "wheel", mode: str | None = None, **variables: str) -> Built:
    """Build a wheel or a source distribution by the function that pip calls."""
    command = f"import sys; from hatchling.build import build_{kind}; build_{kind}(sys.argv[1])"
    return run(project, mode, variables, "-c", command, str(project / "dist"))


def compile_in_place(project: Path, mode: str | None = None, **variables: str) -> str:
    """Run the hook as the set-up does, and return what it said."""
    return run(project, mode, variables, "-m", "hatchling", "build", "--target", "wheel:editable", "--hooks-only").log


def run(project: Path, mode: str | None, variables: dict[str, str], *arguments: str) -> Built:
    inherited = {name: text for name, text in os.environ.items() if name not in {"BUSMON_COMPILE", "CC", "CFLAGS"}}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=inherited | ({"BUSMON_COMPILE": mode} if mode else {}) | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    files = sorted((project / "dist").glob("*")) if done.returncode == 0 else []
    return Built(files[0] if files else None, done.stdout + done.stderr)


def without_compiler(project: Path) -> dict[str, str]:
    (project / "bin").mkdir(exist_ok=True)
    return {"PATH": str(project / "bin")}


@pytest.fixture(scope="module")
def from_sdist(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], Built]:
    """The names in a source distribution, and the wheel that is built from it."""
    directory = tmp_path_factory.mktemp("sdist")
    sdist = build(make_project(directory / "project"), "sdist").file
    assert sdist
    with tarfile.open(sdist) as archive:
        archive.extractall(directory, filter="data")
        names = {name.partition("/")[2] for name in archive.getnames()}
    return names, build(directory / sdist.name.removesuffix(".tar.gz"), mode="required")


def test_the_source_distribution_has_the_sources_and_no_product_of_them(from_sdist: tuple[set[str], Built]) -> None:
    names, _ = from_sdist
    assert {name for name in names if "adding" in name or "hatch" in name} == {
        "hatch_build.py",
        *(str(Path(SOURCE).with_suffix(suffix)) for suffix in (".pyx", ".pxd", ".pyi")),
    }


def test_the_wheel_of_a_source_distribution_has_the_module_and_its_tag(from_sdist: tuple[set[str], Built]) -> None:
    _, wheel = from_sdist
    version = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert re.fullmatch(rf"{version}-{version}t?-linux_\w+", wheel.tag)
    assert {name for name in wheel.names if "adding" in name} == {
        BUILT,
        *(str(Path(SOURCE).with_suffix(suffix)) for suffix in (".pyx", ".pxd", ".pyi")),
    }
    assert wheel.file
    metadata = zipfile.ZipFile(wheel.file).read("busmon_telemetry-1.0.dist-info/WHEEL").decode()
    assert "Root-Is-Purelib: false" in metadata
    assert WARNING not in wheel.log


def test_another_build_elsewhere_gives_the_same_module_and_it_works(
    from_sdist: tuple[set[str], Built], project: Path
) -> None:
    assert compile_in_place(project, "required") == ""
    _, wheel = from_sdist
    assert wheel.file
    assert (project / BUILT).read_bytes() == zipfile.ZipFile(wheel.file).read(BUILT)
    assert str(project).encode() not in (project / BUILT).read_bytes()
    command = "from busmon.registry.fold import adding; print(adding.__file__, adding.add(1, 2))"
    done = subprocess.run([sys.executable, "-c", command], cwd=project, capture_output=True, text=True, check=False)
    assert done.stdout == f"{project / BUILT} 3\n", done.stderr


def test_an_editable_install_compiles_what_has_changed_and_nothing_else(project: Path) -> None:
    compile_in_place(project, "required")
    before = (project / BUILT).stat()
    compile_in_place(project, "required")
    compile_in_place(project, **without_compiler(project))
    assert (project / BUILT).stat() == before
    (project / SOURCE).touch()
    compile_in_place(project, "required")
    assert (project / BUILT).stat().st_ino != before.st_ino
    assert {path.name for path in (project / SOURCE).parent.iterdir()} - {"__init__.py"} == {
        Path(FOREIGN).name, Path(BUILT).name, "adding.c", "adding.pxd", "adding.pyi", "adding.pyx"
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["off", "auto"])
def test_an_editable_install_that_is_pure_leaves_no_older_module_behind(mode: str, project: Path) -> None:
    (project / BUILT).touch()
    os.utime(project / BUILT, (0, 0))
    compile_in_place(project, mode, **without_compiler(project))
    assert not (project / BUILT).exists()
    assert (project / FOREIGN).exists()


@pytest.mark.parametrize("mode", ["required", "off"])
def test_an_editable_install_leaves_no_module_without_a_source(mode: str, project: Path) -> None:
    compile_in_place(project, "required")
    (project / SOURCE).rename((project / SOURCE).with_stem("summing"))
    (project / SOURCE).with_suffix(".py").write_text("is_python = True\n")
    compile_in_place(project, mode)
    assert not (project / BUILT).exists()
    assert (project / BUILT.replace("adding", "summing")).exists() == (mode == "required")
    assert (project / FOREIGN).exists()


def test_an_editable_install_without_any_source_leaves_no_module(project: Path) -> None:
    compile_in_place(project, "required")
    (project / SOURCE).unlink()
    compile_in_place(project)
    assert not (project / BUILT).exists()


@pytest.mark.parametrize("mode", [None, "", "auto"])
def test_without_a_compiler_the_wheel_is_pure_and_a_line_says_so(mode: str | None, project: Path) -> None:
    compiler = sysconfig.get_config_var("CC").split()[0]
    wheel = build(project, mode=mode, **without_compiler(project))
    assert wheel.tag == PURE
    assert BUILT not in wheel.names
    assert wheel.log == f"{WARNING}the C compiler {compiler} isn't installed\n"


def test_without_headers_the_wheel_is_pure_and_a_line_says_so(project: Path) -> None:
    wheel = build(project, CC="gcc -nostdinc")
    assert wheel.tag == PURE
    (line,) = wheel.log.splitlines()
    assert line.startswith(f"{WARNING}gcc -nostdinc fails: ")
    assert ".h: No such file or directory" in line


def test_without_pythons_headers_the_obstacle_is_their_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert hatch_build.find_obstacle() == f"Python's headers aren't installed: there is no {tmp_path}/Python.h"


def test_off_makes_a_pure_wheel_without_a_word(project: Path) -> None:
    wheel = build(project, mode="off")
    assert (wheel.tag, wheel.log) == (PURE, "")
    assert BUILT not in wheel.names


def test_required_fails_without_a_compiler_in_one_line(project: Path) -> None:
    done = build(project, mode="required", **without_compiler(project))
    assert done.file is None
    assert re.fullmatch(r"busmon's hot path can't be compiled: the C compiler \S+ isn't installed\n", done.log)


def test_another_value_of_the_variable_is_one_line(project: Path) -> None:
    assert build(project, mode="yes") == (None, "BUSMON_COMPILE=yes: expected auto, required or off\n")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("def add(:\n", f"{SOURCE}:1:8"),
        ('cdef extern from "no_such_header.h":\n    int nothing()\n\nprint(nothing())\n', "no_such_header.h"),
    ],
    ids=["Cython", "C"],
)
def test_a_source_that_does_not_compile_fails_the_build(code: str, reason: str, project: Path) -> None:
    (project / SOURCE).write_text(code)
    done = build(project)
    assert done.file is None
    assert reason in done.log


def test_a_package_without_such_a_source_is_pure_and_takes_no_compiler(project: Path) -> None:
    (project / SOURCE).unlink()
    wheel = build(project, mode="required", **without_compiler(project))
    assert (wheel.tag, wheel.log) == (PURE, "")
