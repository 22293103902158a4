"""No text that a publisher chose steers the terminal of an operator, whatever command shows it."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pika import BasicProperties

from busmon import cli
from busmon.bus.operator.quarantined import read_quarantined
from busmon.cli.quarantine_text import MAX_COLUMN, page, row, table
from busmon.demo import demo
from busmon.demo.children import Interrupts
from busmon.printable import align, escape, escape_json, printable, shorten
from busmon.settings import Settings
from tests.unit.registry.registries import NOW, Registry

CONTROLS = {
    "escape": "\x1b[2J\x1b]0;mine\x1b\\",
    "csi": "\x9b31m",
    "bell": "\x07",
    "newline": "\nbusmon: all is well",
    "return": "\rbusmon: all is well",
    "separators": "\u2028\u2029\x85\x0b\x0c",
    "bidi": "\u202e\u2066\u200f",
    "nothing": "\x00\x7f\u200b\ufeff",
    "beyond": "\U000e0041",
}

hostile_texts = pytest.mark.parametrize("control", CONTROLS.values(), ids=CONTROLS.keys())


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, control: str) -> Path:
    """A registry with the text in each place that a publisher chooses."""
    monkeypatch.setenv("BUSMON_REGISTRY_DIR", str(tmp_path))
    with Registry(tmp_path) as registry:
        for name in ("queue_size", f"mine{control}"):
            sample = {"name": name, "type": "gauge", "labels": {"queue": f"q{control}"}}
            registry.fold(sample | {"value": 1}, sample | {"value": f"x{control}"}, agent=f"a{control}")
        own = {"name": "mine", "type": "counter", "labels": {"kind": f"k{control}", f"l{control}": "v"}, "value": 1}
        registry.fold(own, {**own, "labels": {"kind": f"k{control}"}}, agent=f"a{control}")
        registry.commit(NOW)
    return tmp_path


def assert_steers_nothing(text: str) -> None:
    assert text
    assert {char for char in text if not char.isprintable()} <= {"\n"}
    assert not [line for line in text.splitlines() if line.startswith("busmon: all is well")]


@hostile_texts
@pytest.mark.usefixtures("directory")
def test_no_command_of_the_registry_prints_what_steers_a_terminal(
    control: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = (
        (0, ["show"]),
        (0, ["rejected"]),
        (0, ["rejected", "--agent", f"x{control}"]),
        (0, ["drop", "--agent", f"a{control}", "--dry-run"]),
        (2, ["drop", "mine", "-l", "none=1"]),
        (2, ["drop", f"q{control}"]),
        (2, ["drop", "--timeout", control]),
    )
    for status, command in commands:
        try:
            assert cli.main(["registry", *command]) == status
        except SystemExit as error:
            assert error.code == status  # noqa: PT017 - some end with a status, and the parser of flags raises it
        said = capsys.readouterr()
        assert_steers_nothing(said.out + said.err)


@hostile_texts
@pytest.mark.usefixtures("directory")
def test_json_has_what_was_published_in_escapes(control: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("show", "rejected"):
        assert cli.main(["registry", command, "--json"]) == 0
        text = capsys.readouterr().out
        assert_steers_nothing(text)
        assert f"a{control}" in every_text(json.loads(text))


def every_text(document: Any) -> list[Any]:
    if isinstance(document, dict):
        return [each for pair in document.items() for part in pair for each in every_text(part)]
    if isinstance(document, list):
        return [each for part in document for each in every_text(part)]
    return [document]


@hostile_texts
def test_no_quarantined_body_steers_a_terminal(control: str) -> None:
    why = {"reason": control, "agent": control, "quarantined_at": "1.5", "detail": control, control: control}
    body = read_quarantined(control, BasicProperties(headers=why, message_id=f"id{control}"), b"body")
    assert_steers_nothing(table([row(body)], 1))
    assert_steers_nothing(page(body, 4096))


def test_a_long_id_pushes_no_column_aside() -> None:
    why = {"reason": "invalid_json", "agent": "a" * 300, "quarantined_at": "1.5"}
    rows = [
        row(read_quarantined(key, BasicProperties(headers=why, message_id=identity), b"x"))
        for key, identity in (("k", "i" * 255), ("\x1b" * 255, "short"))
    ]
    lines = table(rows, 2).splitlines()
    assert max(map(len, lines)) < 4 * MAX_COLUMN
    assert f"{'i' * (MAX_COLUMN - 1)}…  1970-01-01" in lines[1]
    assert lines[-2:] == ["2 of 2", "a cell that ends in … is cut; `busmon quarantine list --json` has all of it"]
    short = read_quarantined("k", BasicProperties(headers=why | {"agent": "a"}), b"x")
    assert table([row(short)], 1).endswith("1 of 1")


@hostile_texts
def test_an_error_is_one_line(control: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["registry", "show", "--registry-dir", f"/none/{control}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@hostile_texts
def test_the_demos_lines_steer_nothing(control: str, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        demo._Play(Settings(), None, stack, Interrupts())._say(f"the fleet is not ready: {control}")
    assert capsys.readouterr().out.count("\n") == 1


@hostile_texts
def test_what_is_made_printable_is_and_json_keeps_its_value(control: str) -> None:
    assert printable(control).isprintable()
    assert escape(control).isprintable()
    document = escape_json(json.dumps(control, ensure_ascii=False))
    assert document.isprintable()
    assert json.loads(document) == control


def test_a_cell_is_cut_after_it_is_escaped() -> None:
    assert [*align([("\x1b" * 3, "b"), ("a", "c")], 6)] == ["\\x1b\\…  b", "a       c"]
    assert shorten("123456", 6) == "123456"
