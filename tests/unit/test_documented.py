"""The examples of the pages: commands and flags that exist, files that are accepted, envelopes that are decoded."""

import argparse
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from busmon.catalogue import Catalogue
from busmon.cli import parser
from busmon.settings import load
from busmon.wire.json_v1 import decode
from tests.documented import NOT_RUN, PAGES, Block, blocks, commands, without_variables

RUN_ELSEWHERE = {  # blocks that other tests run, or that no test can
    ("python", "*"): "tests/fleet/test_examples.py",
    ("sh", "*"): "tests/fleet/test_examples.py, but for the lines of tests.documented.NOT_RUN",
    ("bash", "docs/kubernetes.md"): "needs a cluster; tests/chart renders the values, tests/engine runs the pods",
    ("js", "docs/wire-format.md"): "needs Node, which only `make test-node` sets up",
    ("ini", "docs/formats.md"): "tests/fleet/test_other_clients.py starts a broker with this line",
    ("yaml", "docs/security.md"): "tests/unit/test_security_page.py, tests/fleet/test_closed.py",
    ("json", "docs/health.md"): "a shortened answer of /ready; tests/fleet/test_health.py has whole ones",
}


def of(language: str, page: str) -> list[Block]:
    return [block for block in blocks(language) if block.page == page]


def test_every_block_is_run_or_has_a_reason() -> None:
    checked_here = {("toml", "*"), ("yaml", "*"), ("json", "*")}
    known = {*RUN_ELSEWHERE, *checked_here}
    assert [str(block) for block in blocks() if not {(block.language, block.page), (block.language, "*")} & known] == []
    assert len(blocks("sh", "python", "toml", "yaml", "json")) > 30


def test_every_reason_is_needed() -> None:
    lines = [without_variables(line) for block in blocks("sh") for line in block.text.splitlines()]
    assert [begin for begin in NOT_RUN if not any(line.startswith(begin) for line in lines)] == []


@pytest.mark.parametrize("page", sorted({page for page, _ in commands()}))
def test_a_page_names_commands_and_flags_that_exist(page: str) -> None:
    wrong = [" ".join(words) for named, words in commands() if named == page and not is_known(words)]
    assert wrong == []


def is_known(words: list[str]) -> bool:
    """Follow a command's words through the parser's subcommands, and look up its flags."""
    command: argparse.ArgumentParser = parser()
    for word in words:
        below: dict[str, Any] = next(
            (action.choices for action in command._actions if isinstance(action, argparse._SubParsersAction)), {}
        )
        if below and not word.startswith("-"):
            if not all(each in below for each in word.split("|")):
                return False
            command = below[word.split("|")[0]]
        elif word.startswith("--") and word.partition("=")[0] not in command._option_string_actions:
            return False
    return True


@pytest.mark.parametrize("block", of("toml", "docs/catalogue.md") + of("toml", "docs/formats.md"), ids=str)
def test_a_catalogue_on_a_page_is_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(block.text)
    if "outputs" in tomllib.loads(block.text):  # Telegraf's
        return
    assert Catalogue.load([path])


@pytest.mark.parametrize("block", of("toml", "docs/settings.md") + of("toml", "docs/health.md"), ids=str)
def test_settings_on_a_page_are_accepted(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "busmon.toml"
    path.write_text(block.text)
    assert load(environ={"BUSMON_CONFIG": str(path)})


@pytest.mark.parametrize("block", of("json", "docs/wire-format.md"), ids=str)
def test_an_envelope_on_a_page_is_decoded(block: Block) -> None:
    envelope = decode(block.text.encode(), "application/json", None, 1 << 20)
    assert envelope.source == json.loads(block.text)["source"]


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if block.page != "docs/security.md"], ids=str)
def test_yaml_on_a_page_is_accepted(block: Block, tmp_path: Path) -> None:
    if "scrape_configs" not in yaml.safe_load(block.text):
        return
    path = tmp_path / "prometheus.yml"
    path.write_text(block.text)
    done = subprocess.run(["promtool", "check", "config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_all_pages_are_read() -> None:
    assert {"README.md", "docs/getting-started.md", "docs/guarantees.md"} <= {*PAGES}
