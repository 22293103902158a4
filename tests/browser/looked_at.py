"""A page under test: what it shows, and everything that its browser complained of or asked another host for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

LIVE = "body[data-state=live]"
MILLISECONDS = 60_000

DESKTOP = (1360, 900)
PHONE = (360, 780)


class Complaints:
    """The browser's complaints about a page: errors, and requests to other hosts."""

    def __init__(self, page: Page, address: str) -> None:
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self._host = address
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._request)

    def _console(self, said: ConsoleMessage) -> None:
        if said.type in {"error", "warning"}:
            self.errors.append(said.text)

    def _request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != self._host:
            self.foreign.append(request.url)


@contextmanager
def opened(
    browser: Browser,
    address: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    **context: Any,
) -> Iterator[Page]:
    """The live page, as soon as it shows figures; fails where the browser complained of anything."""
    width, height = size
    with (
        browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **context) as fresh,
        fresh.new_page() as page,
    ):
        complaints = Complaints(page, address)
        page.set_default_timeout(MILLISECONDS)
        page.goto(f"http://{address}/")
        page.wait_for_selector(LIVE)
        yield page
        assert (complaints.errors, complaints.foreign) == ([], [])


def violations(page: Page) -> list[str]:
    """List the violations that axe finds, each as its rule and the elements (https://github.com/dequelabs/axe-core)."""
    page.evaluate(AXE_SCRIPT)
    found = page.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {', '.join(str(node['target']) for node in rule['nodes'])}" for rule in found]


def wait_for(page: Page, promise: Callable[[], Any]) -> None:
    """Wait until the page keeps a promise; each look lets it go on."""
    for _ in range(MILLISECONDS // 50):
        if promise():
            return
        page.wait_for_timeout(50)
    raise AssertionError("the page did not come to it in time")


def texts(page: Page, selector: str) -> list[str]:
    """The texts of all elements that match, in the order of the page."""
    return [text.strip() for text in page.locator(selector).all_inner_texts()]
