from pathlib import Path

import pytest
import yaml

from busmon import rules
from busmon.cli import main
from busmon.errors import RulesError
from busmon.rules.definitions import DIRECTORY
from busmon.rules.thresholds import DURATIONS


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def test_a_number_changed_in_one_place_is_in_every_rule_that_uses_it(tmp_path: Path, mine: Path) -> None:
    mine.write_text('[QueueBackup]\nmessages = 5000\nfor = "9m"\n')

    assert main(["rules", "build", "--thresholds", str(mine), str(tmp_path / "rules")]) == 0

    built = yaml.safe_load((tmp_path / "rules" / "platform.yml").read_text())
    backup = next(rule for group in built["groups"] for rule in group["rules"] if rule["alert"] == "QueueBackup")
    assert (backup["expr"], backup["for"]) == ("queue:queue_size:max > 5000", "9m")


def test_links_are_thresholds_too(mine: Path) -> None:
    mine.write_text('[links]\nrunbooks = "https://wiki.example/books"\n')

    files = rules.build(rules.Thresholds.load(mine))

    assert "https://wiki.example/books/Watchdog.md" in files["monitoring.yml"]


def test_check_writes_nothing_and_names_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rules", "build", str(tmp_path)])
    (tmp_path / "platform.yml").write_text("groups: []\n")
    capsys.readouterr()

    assert main(["rules", "build", "--check", str(tmp_path)]) == 1

    assert capsys.readouterr().out.splitlines()[0] == f"{tmp_path / 'platform.yml'}: differs"
    assert (tmp_path / "platform.yml").read_text() == "groups: []\n"


def test_nothing_is_written_where_nobody_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    for kind in ("rules", "dashboards"):
        assert main([kind, "build"]) == 2
        assert "name the directory to write to" in capsys.readouterr().err

    assert not list(tmp_path.iterdir())


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ours.yml").write_text("groups: []\n")

    main(["rules", "build", str(tmp_path)])

    assert (tmp_path / "ours.yml").read_text() == "groups: []\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[QueueBackups]\nmessages = 1\n", "QueueBackups: expected tables of thresholds.toml"),
        ("QueueBackup = 1\n", "QueueBackup: expected tables of thresholds.toml"),
        ("[QueueBackup]\nlength = 1\n", "QueueBackup.length: expected one of for, keep_firing_for, messages"),
        ("[QueueBackup]\nmessages = true\n", "QueueBackup.messages: expected a number from 0, not True"),
        ("[QueueBackup]\nmessages = -1\n", "QueueBackup.messages: expected a number from 0, not -1"),
        ("[QueueBackup]\nfor = 5\n", "QueueBackup.for: expected a duration"),
        ('[links]\nrunbooks = "here"\n', "links.runbooks: expected an address"),
        ('[ServiceDown]\njobs = "a|(b"\n', "ServiceDown.jobs: expected a regular expression of jobs"),
        ("[ServiceDown]\njobs = 'a\"b'\n", "ServiceDown.jobs: expected a regular expression of jobs"),
        ("[QueueBackup\n", "expected valid TOML"),
    ],
)
def test_a_wrong_change_is_one_line_that_names_it(
    mine: Path, capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    mine.write_text(text)

    assert main(["rules", "build", "--check", "--thresholds", str(mine)]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"busmon: {mine}: ")
    assert line in said
    assert said.count("\n") == 1


def test_a_missing_file_and_a_directory_that_cant_be_written_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(RulesError, match="can't be read"):
        rules.Thresholds.load(tmp_path / "none.toml")
    (tmp_path / "file").touch()
    with pytest.raises(RulesError, match="expected a directory"):
        rules.write(tmp_path / "file", {"a.yml": ""})


def test_every_number_is_an_alerts_and_is_used() -> None:
    thresholds = rules.Thresholds.load()
    texts = {path.name: path.read_text() for path in DIRECTORY.glob("*.toml")}
    alerts = {
        rule.name
        for groups in rules.read(thresholds).values()
        for group in groups
        for rule in group.rules
        if isinstance(rule, rules.Alert)
    }

    assert {*thresholds.tables} == {*alerts, "links"}
    for name in alerts:
        text = alert_text(texts, name)
        assert all(f"${{{key}}}" in text for key in thresholds.of(name) if key not in DURATIONS), name


def alert_text(texts: dict[str, str], name: str) -> str:
    tables = [table for text in texts.values() for table in text.split("[[group.alert]]")]
    return next(table for table in tables if f'name = "{name}"' in table)


def test_no_rule_is_built_with_a_hole() -> None:
    with pytest.raises(RulesError, match="expected a threshold for"):
        rules.build(rules.Thresholds({}))


def test_the_command_shows_alerts_and_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", "show"]) == 0
    assert "P1    HighErrorRate" in capsys.readouterr().out
    assert main(["rules", "thresholds"]) == 0
    assert "[HighErrorRate]" in capsys.readouterr().out
