import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from busmon.exporter import page
from busmon.exporter.server.app import App
from busmon.settings import Settings

from .asking import ask

SCRIPTS = tuple(f"/{name}.js" for name in ("document", "figures", "flow", "page", "sections", "tables", "theme"))
FILES = {
    "/": "text/html",
    "/page.css": "text/css",
    "/page.svg": "image/svg+xml",
    **dict.fromkeys(SCRIPTS, "text/javascript"),
}
_IMPORT = re.compile(r'^import (?:{ (.+?) } from )?"\./(.+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?:const|function) (\w+)", re.MULTILINE)


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    return App(Settings(registry_dir=tmp_path), "127.0.0.1:9797").starlette()


def test_the_whole_page_takes_less_than_200_kilobytes(app: Starlette) -> None:
    assert {route.path for route in page.routes()} == set(FILES)
    assert sum(len(ask(app, path).body) for path in FILES) < 200_000


@pytest.mark.parametrize(("path", "media_type"), list(FILES.items()))
def test_each_file_says_what_it_is_and_is_asked_for_again_after_an_upgrade(
    app: Starlette, path: str, media_type: str
) -> None:
    answer = ask(app, path)
    assert answer.status == 200
    assert answer.headers["content-type"].partition(";")[0] == media_type
    assert answer.headers["cache-control"] == "no-cache"


def test_nothing_stands_inline_that_the_content_policy_forbids(app: Starlette) -> None:
    html = ask(app, "/").body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", html)
    for path in SCRIPTS:
        script = ask(app, path).body.decode()
        assert not re.search(r"\binnerHTML\b|insertAdjacentHTML|\beval\(|document\.write", script)


def test_each_module_imports_names_that_another_file_of_the_page_exports(app: Starlette) -> None:
    scripts = {path: ask(app, path).body.decode() for path in SCRIPTS}
    exported = {path: set(_EXPORT.findall(script)) for path, script in scripts.items()}
    imported = [found for script in scripts.values() for found in _IMPORT.findall(script)]
    for names, module in imported:
        assert {*filter(None, names.split(", "))} <= exported[f"/{module}"]
    assert {f"/{module}" for _, module in imported} == set(SCRIPTS) - {"/page.js"}


def test_no_file_names_another_host(app: Starlette) -> None:
    for path in FILES:
        named = set(re.findall(r"https?://[^\s\"')]+", ask(app, path).body.decode()))
        assert named <= {"http://www.w3.org/2000/svg"}
