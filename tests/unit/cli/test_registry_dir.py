"""`busmon registry` on a directory that isn't its fleet's: one line, status 2, the path and a remedy."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from busmon import cli
from tests.unit.registry.registries import NOW, Registry

READING = (
    ["show"],
    ["show", "--json"],
    ["rejected"],
    ["drop", "queue_size", "--dry-run"],
)
WRITING = (["drop", "queue_size"], ["drop", "--agent", "a"], ["into-log"])
NAME_IT = "name the fleet's with --registry-dir or BUSMON_REGISTRY_DIR"

AS_NOBODY = """
import contextlib, importlib, os, pkgutil, sys
import busmon
for module in pkgutil.walk_packages(busmon.__path__, "busmon."):
    if not module.name.endswith("__main__"):
        with contextlib.suppress(Exception):
            importlib.import_module(module.name)
from busmon import cli
os.setgid(65534), os.setuid(65534)
for command in sys.argv[2:]:
    print(cli.main(["registry", *command.split(), "--registry-dir", sys.argv[1]]), file=sys.stderr)
"""


@pytest.fixture(params=["missing", "a file", "empty", "of something else"])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A path without a registry, and what is said of it."""
    path = tmp_path / "registry"
    match request.param:
        case "missing":
            return path, f"{path} isn't there; {NAME_IT}"
        case "a file":
            path.write_text("")
            return path, f"{path} isn't a directory; {NAME_IT}"
        case "of something else":
            path.mkdir()
            (path / "notes.txt").write_text("")
        case _:
            path.mkdir()
    return path, f"{path} has no shard, so it isn't a fleet's registry directory; {NAME_IT}"


@pytest.mark.parametrize("command", [*READING, *WRITING], ids=" ".join)
def test_a_directory_that_is_no_registry_is_refused_and_left_as_it_is(
    command: list[str], foreign: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, said = foreign
    before = sorted(path.rglob("*"))
    assert cli.main(["registry", *command, "--registry-dir", str(path)]) == 2
    assert capsys.readouterr().err == f"busmon: {said}\n"
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize("kind", ["a file", "below a file", "not empty"])
def test_an_output_that_cant_be_filled_is_refused_before_the_broker_is_asked(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "output"
    if kind == "not empty":
        path.mkdir()
        (path / "notes.txt").write_text("")
    else:
        path.write_text("")
        path = path / "deeper" if kind == "below a file" else path
    assert cli.main(["registry", "from-log", "--output", str(path), "--amqp-url", "amqp://127.0.0.1:1"]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"busmon: {path}: ")
    assert line.endswith("; name a directory of this user's that is empty or can be made, with --output\n")
    assert line.count("\n") == 1


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that each user can look into: those that pytest makes are the test's user's alone."""
    if os.geteuid():
        pytest.skip("only root becomes another user")
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


def run_as_nobody(registry_dir: Path, *commands: list[str]) -> list[str]:
    """Run commands, and return what each wrote to stderr, its status included."""
    run = [sys.executable, "-P", "-c", AS_NOBODY, str(registry_dir), *map(" ".join, commands)]
    ran = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in ran.stderr
    return ran.stderr.splitlines()


def test_a_directory_of_another_user_is_named_with_that_user(open_to_all: Path) -> None:
    with Registry(open_to_all) as registry:
        registry.fold({"name": "queue_size", "labels": {"queue": "a"}, "value": 1})
        registry.commit(NOW)
    unreadable = f"busmon: {open_to_all / 'families.jsonl'}: Permission denied; run the command as user 'root'"
    shown = ["show"], ["show", "--json"], ["drop", "queue_size", "--dry-run"]
    assert run_as_nobody(open_to_all, *shown) == [unreadable, "2"] * 3
    belongs = f"busmon: {open_to_all} belongs to user 'root'; run the command as that user"
    assert run_as_nobody(open_to_all, *WRITING) == [belongs, "2"] * 3


def test_so_is_one_that_is_closed(open_to_all: Path) -> None:
    open_to_all.chmod(0o700)
    closed = f"busmon: {open_to_all}: Permission denied; run the command as user 'root'"
    assert run_as_nobody(open_to_all, *READING, *WRITING) == [closed, "2"] * 7
    below = f"busmon: {open_to_all / 'below'}: Permission denied; run the command as the fleet's user"
    assert run_as_nobody(open_to_all / "below", *READING, *WRITING) == [below, "2"] * 7


def test_root_writes_nothing_for_a_fleet_of_another_user(open_to_all: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Registry(open_to_all) as registry:
        registry.commit(NOW)
    os.chown(open_to_all, 65534, 65534)
    before = sorted(open_to_all.rglob("*"))
    assert cli.main(["registry", "drop", "--agent", "a", "--registry-dir", str(open_to_all)]) == 2
    assert capsys.readouterr().err == f"busmon: {open_to_all} belongs to user 'nobody'; run the command as that user\n"
    assert sorted(open_to_all.rglob("*")) == before


@pytest.mark.parametrize(
    "command", [*READING[:2], ["drop", "queue_size", "--dry-run"], ["drop", "queue_size"]], ids=" ".join
)
def test_a_reader_that_left_is_no_error_of_the_directory(command: list[str], tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold({"name": "queue_size", "labels": {"queue": "a"}, "value": 1})
        registry.commit(NOW)
    reading, writing = os.pipe()
    os.close(reading)
    run = [sys.executable, "-u", "-m", "busmon", "registry", *command, "--registry-dir", str(tmp_path)]
    done = subprocess.run(run, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")
