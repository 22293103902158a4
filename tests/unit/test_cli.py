from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from busmon import __version__, cli
from busmon.cli.options import add_settings, settings_from
from busmon.errors import BrokerUnreachableError, BusmonError, SettingsError
from busmon.settings import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONTRACT = {
    "up",
    "worker",
    "exporter",
    "top",
    "topology",
    "publish",
    "quarantine",
    "catalogue",
    "simulate",
    "demo",
    "settings",
    "schema",
}
HEAVY = {"pika", "prometheus_client", "starlette", "uvicorn", "structlog", "rich", "tenacity", "orjson"}


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, "-m", "busmon", *arguments], capture_output=True, text=True, check=False, **options
    )


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command below this one, and those below them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield child
                yield from commands(child)


def test_the_version_is_one_line() -> None:
    done = run("--version")
    assert done.returncode == 0
    assert re.fullmatch(rf"busmon {re.escape(__version__)} \((compiled|pure Python)\)\n", done.stdout)


def test_every_command_of_the_contract_is_listed_once_with_what_it_does() -> None:
    text = cli.parser().format_help()
    listed = [line.split(maxsplit=1) for line in text.splitlines() if line[:2] == "  " and line[2:3].isalpha()]
    found = [name for name, *what in listed if what and name in CONTRACT]
    assert sorted(found) == sorted(CONTRACT)
    assert "examples:" in text


@pytest.mark.parametrize("command", list(commands(cli.parser())), ids=lambda command: str(command.prog))
def test_every_commands_help_says_what_it_is_for_and_shows_examples(command: argparse.ArgumentParser) -> None:
    text = command.format_help()
    assert command.description
    assert "examples:" in text or list(commands(command))
    assert all(action.help for action in command._actions if not isinstance(action, argparse._SubParsersAction))
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tpology"], "invalid choice: 'tpology'; did you mean 'topology'?; see `busmon --help`"),
        (["topology", "chek"], "invalid choice: 'chek'; did you mean 'check'?; see `busmon topology --help`"),
        (["up", "--wrkers=2"], "unrecognized arguments: --wrkers=2; did you mean '--workers'?; see `busmon up --help`"),
        (["up", "--nothing"], "unrecognized arguments: --nothing; see `busmon up --help`"),
        (["topology", "x"], "invalid choice: 'x'; choose from declare, check, export; see `busmon topology --help`"),
    ],
)
def test_what_was_meant_is_suggested(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(said)


def test_a_type_that_does_not_exist_is_named_by_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["publish", "x_total", "1", "--type", "countr"]) == 2
    assert capsys.readouterr().err == (
        "busmon: publish: --type 'countr': expected counter, gauge, histogram, summary; did you mean 'counter'?\n"
    )


def test_a_groups_help_says_where_the_examples_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["topology", "--help"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "`busmon topology COMMAND --help` describes a command, with examples."


def test_a_list_in_a_help_text_breaks_behind_its_commas(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for columns in range(70, 102):
        monkeypatch.setenv("COLUMNS", str(columns))
        with pytest.raises(SystemExit):
            cli.main(["up", "--help"])
        words = capsys.readouterr().out.replace(",", " ").split()
        assert {"user_id", "request_id", "session_id", "trace_id", "span_id", "correlation_id"} <= {*words}


def test_a_help_text_is_the_same_in_every_terminal_wider_than_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    def texts(columns: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        return [command.format_help() for command in commands(cli.parser())]

    assert texts(60) != texts(102)
    assert texts(102) == texts(121) == texts(200) == texts(500)


def test_help_is_quick_since_it_loads_nothing_heavy() -> None:
    program = "import sys, busmon.cli; busmon.cli.parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["up", "--nonsense"],
        ["up", "--worker", "3"],
        ["worker"],
        ["worker", "--shards", "0,0"],
        ["worker", "--shards", "a"],
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("busmon")
    assert line.endswith(f"; see `{line.partition(':')[0]} --help`")


@pytest.mark.parametrize("command", ["up", "worker --shards 0", "exporter", "settings"])
def test_a_wrong_setting_is_one_line_and_exits_with_2(command: str) -> None:
    done = run(*command.split(), env=os.environ | {"BUSMON_PREFETCH": "many"})
    assert (done.returncode, done.stdout) == (2, "")
    expected = "busmon: prefetch from environment BUSMON_PREFETCH: 'many' is not a whole number from 1 to 65535\n"
    assert done.stderr == expected


def test_a_misspelt_variable_is_told_once_and_costs_nothing() -> None:
    done = run("settings", env=os.environ | {"BUSMON_WORKER": "4"})
    assert (done.returncode, done.stderr) == (
        0,
        "busmon: BUSMON_WORKER isn't a setting; did you mean BUSMON_WORKERS?\n",
    )


def outcome(monkeypatch: pytest.MonkeyPatch, raised: BaseException | None) -> Callable[[], int]:
    """`main`, of a command that ends so."""

    def command(_: argparse.Namespace) -> int:
        if raised:
            raise raised
        return 3

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=command)
    monkeypatch.setattr(cli, "parser", lambda: parser)
    return lambda: cli.main([])


@pytest.mark.parametrize(
    ("error", "exit_status"),
    [(SettingsError("workers: no"), 2), (BrokerUnreachableError("gone"), 1), (BusmonError("something"), 1)],
)
def test_an_error_on_purpose_is_its_line_and_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BusmonError, exit_status: int
) -> None:
    assert outcome(monkeypatch, error)() == exit_status
    assert capsys.readouterr() == ("", f"busmon: {error}\n")


def test_a_commands_status_is_the_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(monkeypatch, None)() == 3


def test_an_interrupt_is_quiet_and_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outcome(monkeypatch, KeyboardInterrupt())() == 130
    assert capsys.readouterr() == ("", "")


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(monkeypatch, ZeroDivisionError())()


def test_a_reader_that_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "busmon", "settings", "--json"]
    done = subprocess.run(program, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_flag_stands_for_its_setting_and_nothing_else() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("topology", help="an argument by the name of a setting that this command has no flag for")
    add_settings(parser, "workers", "amqp_url")
    settings = settings_from(parser.parse_args(["declare", "--workers", "7"]))
    assert (settings.workers, settings.origin("workers")) == (7, "flag --workers")
    assert (settings.topology, settings.origin("amqp_url")) == (None, "default")


BUDGETS = ["max_label_values", "max_series", "max_bytes", "max_bytes_per_family", "max_adopted_bytes"]


@pytest.mark.parametrize(
    "name", ["formats", "plain_pika", "pure_python", "forbidden_labels", "source_ownership", *BUDGETS]
)
def test_what_a_worker_is_set_by_is_a_flag_of_it_and_of_the_fleet(name: str) -> None:
    for command in (["up"], ["worker", "--shards", "0"]):
        assert getattr(cli.parser().parse_args([*command, f"--{name.replace('_', '-')}", "x"]), name) == "x"


@pytest.mark.parametrize("name", [*BUDGETS, "max_adopted_families"])
def test_budgets_are_flags_of_the_exporter_which_shows_how_full_they_are(name: str) -> None:
    assert getattr(cli.parser().parse_args(["exporter", f"--{name.replace('_', '-')}", "7"]), name) == "7"


def test_only_settings_of_agents_and_of_other_commands_are_no_flags_of_the_fleet() -> None:
    parsed = vars(cli.parser().parse_args(["up"]))
    assert {setting.name for setting in SCHEMA if setting.name not in parsed} == {
        "publisher_password",
        "consumer_password",
        "operator_password",
        "exporter_url",
        "publish_interval_seconds",
        "publish_buffer_bytes",
        "spool_dir",
        "spool_bytes",
    }


def test_the_settings_are_shown_with_their_origin_and_without_their_passwords() -> None:
    environ = os.environ | {"BUSMON_AMQP_URL": "amqp://user:secret@host", "BUSMON_OPERATOR_PASSWORD": "secret"}
    for form in ([], ["--json"]):
        done = run("settings", "--workers", "7", *form, env=environ)
        assert done.returncode == 0
        assert "secret" not in done.stdout
        assert "amqp://user:***@host" in done.stdout
        assert "environment BUSMON_AMQP_URL" in done.stdout
        assert "flag --workers" in done.stdout
