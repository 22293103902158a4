"""Extras: the modules that a command looks for are those that pyproject.toml installs."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from busmon import extras
from busmon.errors import MissingExtraError, UserError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def distributions(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def test_the_base_install_is_what_publishing_takes() -> None:
    assert distributions(PROJECT["dependencies"]) == {"orjson", "pika", "tenacity"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_extra_has_the_modules_that_its_packages_install(extra: str) -> None:
    installed = packages_distributions()
    found = {
        normal(distribution)
        for module in extras.MODULES[extra]
        for distribution in installed[module.partition(".")[0]]
        if normal(distribution) in distributions(EXTRAS[extra])
    }
    assert found == distributions(EXTRAS[extra])
    extras.require(extra, "the test")


def test_every_extra_is_known() -> None:
    assert extras.MODULES.keys() == EXTRAS.keys()


def test_a_missing_module_is_one_line_with_the_command_that_installs_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "MODULES", {"fleet": ("sys", "busmon.no_such_module", "no_such_parent.module")})
    with pytest.raises(MissingExtraError) as caught:
        extras.require("fleet", "`busmon up`")
    assert isinstance(caught.value, UserError)
    assert str(caught.value) == (
        "`busmon up` needs busmon.no_such_module, which isn't installed; run: pip install 'busmon-telemetry[fleet]'"
    )
    assert not extras.is_installed("no_such_parent.module")


def test_every_command_that_installs_is_quoted_and_names_this_package_and_its_extras() -> None:
    texts = {path: path.read_text() for room in ("busmon", "docs") for path in (ROOT / room).rglob("*.py")}
    texts |= {path: path.read_text() for path in (*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"))}
    found = [
        (path, command) for path, text in texts.items() for command in re.findall(r"pip install ([^`\n#]*\[.*)", text)
    ]
    assert len(found) > 5
    for path, command in found:
        # A shell takes brackets that aren't quoted for a pattern. Another project has the name busmon on PyPI.
        quoted = re.match(r"'(busmon-telemetry|\.)\[([a-z,{}-]+)\]'", command)
        assert quoted, f"{path}: {command}"
        assert {*quoted[2].split(",")} <= {*EXTRAS, "{extra}"}, f"{path}: {command}"
    assert PROJECT["name"] == "busmon-telemetry"
    assert all(extras.command(extra) == f"pip install 'busmon-telemetry[{extra}]'" for extra in EXTRAS)
