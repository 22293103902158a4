"""The pages for contributors name what is there: paths, targets of the Makefile, suites of the workflow."""

import re
from pathlib import Path

import pytest
import yaml

import busmon

ROOT = Path(__file__).parents[2]
PAGES = ("CONTRIBUTING.md", "SECURITY.md", "docs/releasing.md")
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
RELEASES = [
    tuple(map(int, release.split("."))) for release in re.findall(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG, re.MULTILINE)
]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


@pytest.mark.parametrize("page", PAGES)
def test_each_path_and_target_that_a_page_names_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    paths = re.findall(r"`((?:busmon|tests|docs|docker|benchmarks|topology|\.ci|\.github)/[\w./-]*)`", text)
    links = [link for link in re.findall(r"\]\(([\w./-]+)\)", text) if "://" not in link]
    missing = [path for path in paths if not (ROOT / path).exists()]
    missing += [link for link in links if not ((ROOT / page).parent / link).exists()]
    assert missing == []
    assert {*re.findall(r"\bmake ([a-z-]+)`", text)} <= TARGETS


def test_the_workflow_calls_the_suites_of_the_project_by_their_targets() -> None:
    listed = re.findall(r"^([a-z-]+) \d+$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    suites = WORKFLOW["jobs"]["suite"]["strategy"]["matrix"]["suite"]
    assert sorted(["test", *suites]) == sorted(listed)
    assert set(suites) <= TARGETS
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    assert commands == ["make test", "make ${{ matrix.suite }}"]


def test_the_workflow_tests_every_supported_python() -> None:
    assert WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13", "3.14"]


def test_every_target_is_listed_with_its_time() -> None:
    lines = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {name for name, _ in lines} == TARGETS
    assert [name for name, help_ in lines if not re.match(r"(\d+(-\d+)? (s|min)|until Ctrl-C) +\| ", help_)] == []


def test_what_is_unreleased_has_a_development_version_and_a_release_its_own() -> None:
    _, unreleased, *released = re.split(r"^## \[(?:Unreleased|\d+\.\d+\.\d+)\].*$", CHANGELOG, flags=re.MULTILINE)
    assert len(released) == len(RELEASES)
    version = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(\.dev\d+)?", busmon.__version__)
    assert version
    number = tuple(map(int, version.groups()[:3]))
    if unreleased.strip():
        assert version[4], "see the last step of docs/releasing.md"
        assert number > max(RELEASES)
    else:
        assert (number, version[4]) == (max(RELEASES), None)
