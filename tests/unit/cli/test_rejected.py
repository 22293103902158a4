"""`busmon registry rejected`: the last samples that were not counted, of all shards, for a person and for a program."""

import json
from pathlib import Path
from typing import Any

import pytest

from busmon import cli
from tests.unit.registry.registries import NOW, Registry

QUEUE = {"name": "queue_size", "labels": {"queue": 'q\x1b[2J"'}}


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUSMON_REGISTRY_DIR", str(tmp_path))
    monkeypatch.setattr("busmon.cli.rejected.time.time", lambda: NOW + 60)
    with Registry(tmp_path) as registry:
        registry.commit()
    return tmp_path


@pytest.fixture
def _rejected(directory: Path) -> None:
    for shard, agent in enumerate(("planner", "writer")):
        with Registry(directory, shard) as registry:
            registry.fold(QUEUE | {"value": "x"}, {"name": "nodes", "value": 3}, agent=agent, now=NOW + shard)
            registry.commit()


def printed(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert cli.main(["registry", "rejected", *flags]) == 0
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], *flags: str) -> Any:
    return json.loads(printed(capsys, "--json", *flags))


@pytest.mark.usefixtures("_rejected")
def test_the_samples_of_all_shards_are_shown_newest_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--reason", "invalid_value") == (
        '59 s ago  writer  invalid_value  queue_size{queue="q\\u001b[2J\\""} x\n'
        "    'value' is a number, got a string\n"
        '60 s ago  planner  invalid_value  queue_size{queue="q\\u001b[2J\\""} x\n'
        "    'value' is a number, got a string\n"
    )
    assert printed(capsys, "--agent", "writer", "--reason", "unknown_metric") == (
        "59 s ago  writer  unknown_metric  nodes 3\n    no catalogue names the metric, and it states no type\n"
    )


@pytest.mark.usefixtures("_rejected")
def test_a_program_has_every_member(capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "--agent", "planner", "--reason", "unknown_metric") == {
        "samples": [
            {
                "at": NOW,
                "shard": 0,
                "reason": "unknown_metric",
                "agent": "planner",
                "name": "nodes",
                "labels": {},
                "value": "3",
                "why": "no catalogue names the metric, and it states no type",
            }
        ],
        "skipped": {},
    }
    assert len(document(capsys)["samples"]) == 4


def test_a_directory_without_rejections_is_said_to_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys) == "there is no rejected sample\n"
    assert document(capsys) == {"samples": [], "skipped": {}}


@pytest.mark.usefixtures("_rejected")
def test_a_filter_that_finds_nothing_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--agent", "writter") == (
        "there is no rejected sample of that agent and reason; agents: planner, writer; "
        "reasons: invalid_value, unknown_metric\n"
    )


def test_a_damaged_file_is_named(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (directory / "rejected_shard0.json").write_text("{")
    assert printed(capsys) == (
        "there is no rejected sample\nrejected_shard0.json: it isn't as a process of this version writes it\n"
    )


def test_the_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["registry", "rejected", "--help"])
    assert "busmon registry rejected --agent writer" in capsys.readouterr().out
