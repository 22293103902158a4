"""Every text file of a user fails in one form, whichever part of busmon reads it: file, reason, line, expectation."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    ],
    ids=["no value", "twice", "open table", "separator", "end"],
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


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_toml_that_python_cant_hold_is_an_error_of_the_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(text)
    with pytest.raises(CatalogueError, match=r"a\.toml: .*; expected valid TOML, each key once"):
        read_toml(path, CatalogueError, "a catalogue file in TOML")


def test_a_path_that_is_none_is_an_error_of_the_file() -> None:
    with pytest.raises(CatalogueError, match="can't be read: embedded null byte; expected a file"):
        read_text(Path("a\0b"), CatalogueError, "a file")
