import json
from pathlib import Path

import pytest

from busmon.catalogue import Catalogue
from busmon.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("BUSMON_CATALOGUE", "BUSMON_CONFIG"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def search(tmp_path: Path) -> Path:
    path = tmp_path / "search.toml"
    path.write_text("[counter.searches_total]\nhelp = 'Searches'\n")
    return path


def test_check_finds_nothing_in_the_built_in_families(capsys: Capture) -> None:
    assert main(["catalogue", "check"]) == 0
    assert capsys.readouterr().out == f"{len(Catalogue.load().families)} families, no findings\n"


def test_check_names_file_and_key_of_each_finding(search: Path, capsys: Capture) -> None:
    search.write_text("[gauge.wait_ms]\nhelp = 'Wait'\nlabels = ['user_id']\n")
    assert main(["catalogue", "check", str(search)]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"{search}: gauge.wait_ms: ")
    assert out[1].startswith(f"{search}: gauge.wait_ms.labels: ")
    assert out[2].endswith("families, 2 findings")


def test_a_file_that_is_no_catalogue_is_one_line_and_exit_status_2(search: Path, capsys: Capture) -> None:
    search.write_text("[counter.searches_total]\nlabels = ['job']\n")
    assert main(["catalogue", "check", str(search)]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"busmon: {search}: counter.searches_total.help: expected a sentence, on one line\n"
    assert captured.out == ""


def test_show_lists_the_settings_files_too(search: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUSMON_CATALOGUE", str(search))
    assert main(["catalogue", "show"]) == 0
    assert "counter\tsearches_total\tSearches" in capsys.readouterr().out.splitlines()


def test_show_has_one_family_in_full(search: Path, capsys: Capture) -> None:
    assert main(["catalogue", "show", "searches_total", "--catalogue", str(search)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("searches_total\n")
    assert json.loads(out[out.index("{") :])["samples"][0]["name"] == "searches_total"


def test_show_offers_the_nearest_name(capsys: Capture) -> None:
    assert main(["catalogue", "show", "queue_sise"]) == 2
    assert capsys.readouterr().err == "busmon: there is no metric family 'queue_sise'; did you mean 'queue_size'?\n"


def test_show_gives_json_for_a_program(capsys: Capture) -> None:
    assert main(["catalogue", "show", "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert {document["name"] for document in documents} == Catalogue.load().families.keys()
    assert main(["catalogue", "show", "queue_size", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) in documents


def test_show_draws_tables_on_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(["catalogue", "show"]) == 0
    out = capsys.readouterr().out
    assert "histogram families" in out
    assert all(name in out for name in Catalogue.load().families)


@pytest.mark.parametrize("name", ["envelope", "sample"])
def test_schema_prints_one_that_refers_to_nothing_outside_itself(name: str, capsys: Capture) -> None:
    assert main(["schema", name]) == 0
    out = capsys.readouterr().out
    ids = {f"urn:busmon:wire:v1:{known}" for known in ("envelope", "sample")}
    assert json.loads(out)["$id"] in ids
    references = {line.split('"')[3].partition("#")[0] for line in out.splitlines() if '"$ref"' in line}
    assert references - {""} <= {line.split('"')[3] for line in out.splitlines() if '"$id"' in line}


def test_schema_alone_is_the_envelopes(capsys: Capture) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "A busmon envelope, version 1"
