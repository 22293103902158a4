import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from busmon.exporter import page
from busmon.exporter.app import App
from busmon.settings import Settings

from .asking import ask

PATHS = ("/", "/page.css", "/page.js", "/page.svg")


@pytest.fixture
def app(tmp_path: Path) -> Starlette:
    return App(Settings(registry_dir=tmp_path), "127.0.0.1:9797").starlette()


def test_the_whole_page_takes_less_than_200_kilobytes(app: Starlette) -> None:
    assert [route.path for route in page.routes()] == list(PATHS)
    assert sum(len(ask(app, path).body) for path in PATHS) < 200_000


@pytest.mark.parametrize(
    ("path", "media_type"),
    list(zip(PATHS, ("text/html", "text/css", "text/javascript", "image/svg+xml"), strict=True)),
)
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
    assert not re.search(
        r"\binnerHTML\b|insertAdjacentHTML|\beval\(|document\.write", ask(app, "/page.js").body.decode()
    )


def test_no_file_names_another_host(app: Starlette) -> None:
    for path in PATHS:
        named = set(re.findall(r"https?://[^\s\"')]+", ask(app, path).body.decode()))
        assert named <= {"http://www.w3.org/2000/svg"}
