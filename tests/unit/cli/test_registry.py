"""`busmon registry`: what a directory holds, and the removal of series with and without a fleet in it."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from busmon import cli
from busmon.registry.admission.budgets import Budgets
from busmon.registry.operator import removal, requests
from busmon.registry.operator.inventory import FamilyUse, Inventory, text
from busmon.settings import Settings
from tests.unit.registry.registries import NOW, Registry, series, stock


def size(queue: str) -> dict[str, Any]:
    return {"name": "queue_size", "labels": {"queue": queue}, "value": 7}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BUSMON_REGISTRY_DIR", str(tmp_path))
    for shard in (0, 1):
        with Registry(tmp_path, shard) as registry:
            registry.fold(size("a"), size(f"only-{shard}"))
            registry.commit(NOW)
    return tmp_path


@contextmanager
def owned(directory: Path, shard: int) -> Iterator[None]:
    """An owner of the shard, that looks for requests as a worker does."""
    ended, started = threading.Event(), threading.Event()

    def own() -> None:
        with Registry(directory, shard) as registry:
            started.set()
            while not ended.wait(0.01):
                for request in requests.pending(directory, shard):
                    removed = removal.carry_out(registry.shard, request, time.time())
                    requests.answer(directory, request, shard, removed)

    owner = threading.Thread(target=own)
    owner.start()
    started.wait(10)
    try:
        yield
    finally:
        ended.set()
        owner.join()


@pytest.mark.usefixtures("directory")
def test_what_the_directory_holds_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["registry", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    families = {family["name"]: family for family in shown["families"]}
    assert [shard["shard"] for shard in shown["shards"]] == [0, 1]
    assert families["queue_size"]["labels"] == {"queue": {"values": 3, "budget": 100}}
    assert (families["queue_size"]["series"], families["queue_size"]["exposed"]) == (4, 3)
    assert families["queue_size"]["updated_at"] == NOW
    assert shown["series"] == {"used": sum(family["series"] for family in families.values()), "budget": 1_000_000}


def test_a_person_sees_it_in_columns(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with owned(directory, 0):
        assert cli.main(["registry", "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.startswith("queue_size"))
    assert row[:5] == ["queue_size", "gauge", "3", "4", "300"]
    assert row[-2:] == ["queue", "3/100"]
    head = next(line for line in lines if line.startswith("family"))
    assert re.split(r"  +", head)[2:4] == ["series", "in all shards"]
    assert head.endswith("  label values not in the catalogue")
    assert lines[-2].endswith(" of 1000000 series in all shards, at most 10000 in a family")


def test_a_gauge_that_no_source_has_any_more_isnt_said_to_be_without_an_update() -> None:
    families = [FamilyUse(type_, type_, 0, 0, 300.0, None, {}) for type_ in ("gauge", "counter")]
    gauge, counter = text(Inventory([], families, Budgets.of(Settings())), NOW).splitlines()[3:5]
    assert gauge.endswith("  no live source")
    assert counter.endswith("  never")


def test_series_are_dropped_where_nobody_owns_the_shards(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["registry", "drop", "queue_size", "-l", "queue=a"]) == 0
    assert capsys.readouterr().out == "2 series of queue_size in 2 shards removed\n"
    left = {key for key in stock(directory) if key[0] == "queue_size"}
    assert left == {series("queue_size", queue="only-0"), series("queue_size", queue="only-1")}
    assert not [*(directory / "requests").iterdir()]


def test_series_are_dropped_by_the_owners_that_there_are(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with owned(directory, 1):
        assert cli.main(["registry", "drop", "queue_size"]) == 0
    assert capsys.readouterr().out == "4 series of queue_size in 2 shards removed\n"
    assert not [key for key in stock(directory) if key[0] == "queue_size"]


def test_what_an_agent_took_is_dropped_with_and_without_owners(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "4 series of 0 metrics and 3 label values of tester"
    assert cli.main(["registry", "drop", "--agent", "tester", "--dry-run"]) == 0
    with owned(directory, 1):
        assert cli.main(["registry", "drop", "--agent", "tester"]) == 0
    assert capsys.readouterr().out == f"{told} would be removed\n{told} removed\n"
    assert not [key for key in stock(directory) if key[0] == "queue_size"]
    assert not [*(directory / "requests").iterdir()]


@pytest.mark.usefixtures("directory")
@pytest.mark.parametrize("words", [[], ["queue_size", "--agent", "a"], ["queue_size", "--user", "u"]])
def test_a_family_or_an_agent_is_expected(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["registry", "drop", *words]) == 2
    assert "expected a family's NAME, or --agent NAME" in capsys.readouterr().err


def test_a_dry_run_removes_nothing(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = stock(directory)
    assert cli.main(["registry", "drop", "queue_size", "-l", "queue=only-1", "--dry-run"]) == 0
    assert capsys.readouterr().out == "1 series of queue_size in 1 shard would be removed\n"
    assert stock(directory) == before


def test_an_owner_that_does_not_answer_is_named_and_the_request_withdrawn(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Registry(directory, 1):
        assert cli.main(["registry", "drop", "queue_size", "--timeout", "0.2"]) == 1
    assert "shard 1 didn't answer in 0.2 s" in capsys.readouterr().err
    assert not [*(directory / "requests").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["queue_sizes"], "no family 'queue_sizes' has series; did you mean 'queue_size'?"),
        (["queue_size", "-l", "host=a"], "queue_size has no label 'host'; expected one of: queue"),
    ],
)
def test_a_mistake_is_one_line(
    directory: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert directory.is_dir()
    assert cli.main(["registry", "drop", *arguments]) == 2
    assert capsys.readouterr().err == f"busmon: {line}\n"


def test_a_request_that_nobody_withdrew_is_not_carried_out_long_after(directory: Path) -> None:
    request = requests.ask(directory, "queue_size", {}, time.time() - 1)
    assert requests.pending(directory, 0) == []
    requests.answer(directory, request, 0, 3)
    assert requests.pending(directory, 0) == []
    assert not [*(directory / "requests").iterdir()]
