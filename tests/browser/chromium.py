"""A real, headless Chromium: the system's own, driven by Playwright, which brings none of its own here."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def running() -> Iterator[Browser]:
    """A browser; it and its driver are gone when the block ends."""
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        pytest.fail(f"none of {', '.join(_NAMES)} is installed; `.ci/setup --browser` installs Debian's chromium")
    # As root, Chromium runs without its sandbox or not at all; the pages are our own.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
