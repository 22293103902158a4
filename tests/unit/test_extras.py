"""Extras: the modules that a command looks for are those that pyproject.toml installs."""

import re
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from busmon import extras
from busmon.errors import MissingExtraError, UserError

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
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
