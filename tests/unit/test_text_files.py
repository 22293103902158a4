"""Every text file of a user fails in one form, whichever part of busmon reads it: file, reason, line, expectation."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon import cli, rules, settings
from busmon.bus.topology import topology
from busmon.catalogue import Catalogue
from busmon.errors import CatalogueError, RulesError, SettingsError, TopologyError, UserError
from busmon.text_files import read_text, read_toml


def read_settings(path: Path) -> Any:
    return settings.load({}, environ={"BUSMON_CONFIG": str(path)})


def read_secret(path: Path) -> Any:
    return settings.load({}, environ={"BUSMON_AMQP_URL_FILE": str(path)})


TOML: dict[str, tuple[Callable[[Path], Any], type[UserError], str]] = {
    "catalogue": (lambda path: Catalogue.load([path]), CatalogueError, "a catalogue file in TOML"),
    "topology": (lambda path: topology.load(path, "telemetry"), TopologyError, "a topology file in TOML"),
    "thresholds": (rules.Thresholds.load, RulesError, "a TOML file"),
    "settings": (read_settings, SettingsError, "a TOML file of settings"),
}
TEXT: dict[str, tuple[Callable[[Path], Any], type[UserError], str]] = {
    **TOML,
    "secret": (read_secret, SettingsError, "a file with the value"),
}
NAMED = {
    "settings": "{path} from environment BUSMON_CONFIG",
    "secret": "amqp_url from environment BUSMON_AMQP_URL_FILE: {path}",
}


def failure(reader: str, path: Path) -> str:
    read, kind, _ = TEXT[reader]
    with pytest.raises(kind) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize("reader", TEXT)
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda _path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"a = 'caf\xe9'\n"), "it isn't UTF-8 (at byte 9)"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ],
    ids=["missing", "directory", "latin-1", "loop"],
)
def test_a_file_that_cant_be_read_is_named_with_the_reason_and_what_was_expected(
    reader: str, make: Callable[[Path], object], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    make(path)
    named = NAMED.get(reader, "{path}").format(path=path)
    assert failure(reader, path) == f"{named}: can't be read: {reason}; expected {TEXT[reader][2]}"


@pytest.mark.parametrize("reader", TOML)
@pytest.mark.parametrize(
    ("text", "position", "line"),
    [
        ("a = 1\nb = \n", "at line 2, column 5", "b ="),
        ("a = 1\na = 2\n", "at line 2, column 6", "a = 2"),
        ("[open\n", "at line 1, column 6", "[open"),
        ('a = "\u2028\n', "at line 1, column 7", 'a = "'),
        ("a = [", "at end of document", "a = ["),
        ("a = [\n1,\n\n\n", "at end of document", "1,"),
        ("a = 1\r\rb = \r\n", "at line 3, column 5", "b ="),
    ],
    ids=["no value", "twice", "open table", "separator", "end", "blank lines at the end", "ends of lines"],
)
def test_toml_that_is_none_is_named_with_its_line(
    reader: str, text: str, position: str, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text, encoding="utf-8")
    said = failure(reader, path)
    assert said.startswith(f"{NAMED.get(reader, '{path}').format(path=path)}: ")
    assert position in said
    assert said.endswith("; expected valid TOML, each key once")
    assert (f": {line!r};" in said) is (reader != "settings")


def test_an_error_behind_the_last_line_names_its_position_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('a = "x\\\n\n')
    said = "Unescaped '\\' in a string (at line 2, column 1); expected valid TOML, each key once"
    assert failure("catalogue", path) == f"{path}: {said}"


PIECES = [*"a=[]{}\"'\n\r#,1.-:\\ \té", '"""', "'''", "\n\n", "\r\n", "[[a]]\n", "at line 9", "\u2028", "\x00"]


@hypothesis.settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(max_size=14))
def test_any_text_is_toml_or_the_files_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "a.toml"
        path.write_bytes(text.encode(errors="surrogatepass"))
        with suppress(KeyError):
            read_toml(path, KeyError, "a file in TOML")


def test_an_error_in_the_settings_shows_no_password(tmp_path: Path) -> None:
    path = tmp_path / "busmon.toml"
    path.write_text('amqp_url = "amqp://fleet:secret@rabbit/" x\n')
    assert "secret" not in failure("settings", path)
    assert "at line 1" in failure("settings", path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_of_another_user_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.touch(mode=0)
    assert ": can't be read: Permission denied; expected " in failure("catalogue", path)


def test_no_settings_file_is_no_error_where_nobody_named_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings.load({}, environ={}).exchange == "telemetry"


def test_definitions_are_read_in_the_same_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["topology", "check", "--definitions", str(tmp_path)]) == 2
    expected = "expected the output of `rabbitmqctl export_definitions`"
    assert capsys.readouterr().err == f"busmon: {tmp_path}: can't be read: Is a directory; {expected}\n"


def check_definitions(standard_input: int, *, before: str = "") -> tuple[int, str]:
    """Check definitions from standard input in a process of its own; return its status and what it says."""
    command = ["topology", "check", "--definitions", "-"]
    program = f"import os, sys; {before}\nfrom busmon import cli; sys.exit(cli.main({command}))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdin=standard_input,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_definitions_are_read_from_any_standard_input(kind: str) -> None:
    """The kernel opens no socket by the name /dev/stdin, and no other user's pipe."""
    ends = os.pipe() if kind == "pipe" else [end.detach() for end in socket.socketpair()]
    os.write(ends[1], b"caf\xe9")
    os.close(ends[1])
    said = check_definitions(ends[0])
    os.close(ends[0])
    expected = "expected the output of `rabbitmqctl export_definitions`"
    assert said == (2, f"busmon: standard input: can't be read: it isn't UTF-8 (at byte 4); {expected}\n")


def test_a_closed_standard_input_is_one_line() -> None:
    expected = "expected the output of `rabbitmqctl export_definitions`"
    said = check_definitions(subprocess.DEVNULL, before="os.close(0)")
    assert said == (2, f"busmon: standard input: can't be read: Bad file descriptor; {expected}\n")


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_toml_that_python_cant_hold_is_an_error_of_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(CatalogueError, match=r"a\.toml: .*; expected valid TOML, each key once"):
        read_toml(path, CatalogueError, "a catalogue file in TOML")


def test_a_path_that_is_none_is_an_error_of_the_file() -> None:
    with pytest.raises(CatalogueError, match="can't be read: embedded null byte; expected a file"):
        read_text(Path("a\0b"), CatalogueError, "a file")
