"""The page's geometry: nothing touches, nothing is cut without a hint, and nothing moves while figures change."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import HOSTILE, LONG, greeting
from tests.browser.looked_at import opened, texts, wait_for
from tests.fleet.publishing import publish
from tests.fleet.real_fleet import RealFleet

WIDTHS = (320, 390, 768, 1024, 1180, 1200, 1360, 2000)

TOUCHING = """() => {
  const boxes = [...document.querySelectorAll(".node, .card, .tile")].map((box) => [box, box.getBoundingClientRect()]);
  const meet = (one, other) =>
    one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
  return boxes.flatMap(([one, a], index) =>
    boxes.slice(index + 1)
      .filter(([other, b]) => meet(a, b) && !one.contains(other) && !other.contains(one))
      .map(([other]) => `${one.innerText.slice(0, 30)} / ${other.innerText.slice(0, 30)}`));
}"""

CUT = """() => [...document.querySelectorAll("td.number, th.number, td .state, .node dt, .node dd, .node .words")]
  .filter((cell) => cell.offsetParent && cell.scrollWidth > cell.clientWidth + 1 && cell.clientWidth)
  .map((cell) => cell.innerText)"""

UNHINTED = """() => [...document.querySelectorAll(".scroll")]
  .filter((box) => box.scrollWidth > box.clientWidth + 1)
  .filter((box) => !getComputedStyle(box).backgroundAttachment.includes("local"))
  .map((box) => box.firstElementChild.id)"""

# Digits of a column that is aligned right grow to the left, as they should.
WATCH = """() => {
  window.shifts = [];
  const place = ({ node }) => node?.nodeType === Node.TEXT_NODE ? node.parentElement : node;
  new PerformanceObserver((list) => {
    const unasked = list.getEntries().filter((entry) => !entry.hadRecentInput);
    const moved = unasked.flatMap((entry) => entry.sources.map(place));
    const rest = moved.filter((element) => element && !element.closest("td.number"));
    window.shifts.push(...rest.map((element) => element.outerHTML.slice(0, 200)));
  }).observe({ type: "layout-shift" });
}"""


@pytest.mark.parametrize("width", WIDTHS)
def test_no_box_touches_another_and_no_figure_is_cut(browser: Browser, fleet: RealFleet, width: int) -> None:
    with opened(browser, fleet.address, size=(width, 900)) as page:
        assert page.evaluate(TOUCHING) == []
        assert page.evaluate(CUT) == []
        assert page.evaluate(UNHINTED) == []


@pytest.mark.parametrize("width", [*WIDTHS, 721, 900, 961])
def test_a_familys_name_has_room_at_every_width(browser: Browser, fleet: RealFleet, width: int) -> None:
    with opened(browser, fleet.address, size=(width, 900)) as page:
        name = page.locator("#families tbody th").first.bounding_box()
        assert name is not None
        assert name["width"] >= 190
        assert name["x"] >= 0


@pytest.mark.parametrize("width", WIDTHS)
def test_a_long_name_pushes_no_figure_out_of_its_card(browser: Browser, fleet: RealFleet, width: int) -> None:
    with opened(browser, fleet.address, size=(width, 900)) as page:
        name = page.locator(f'#agents th[title="{LONG}"]')
        row = name.locator("..")
        card = page.locator("#agents").evaluate("table => table.closest('.scroll').getBoundingClientRect().right")
        assert name.inner_text() == LONG
        assert row.evaluate("row => row.lastElementChild.getBoundingClientRect().right") <= card + 1


def test_nothing_moves_while_figures_change(browser: Browser, fleet: RealFleet, amqp_url: str) -> None:
    with publishing(amqp_url), opened(browser, fleet.address) as page:
        # An agent that is silent for another minute takes another place, as it should: here none does.
        publish(amqp_url, [*greeting(LONG), *greeting(HOSTILE)])
        wait_for(page, lambda: rate(page) > 0 and page.locator("#agents .late").count() == 0)
        order = texts(page, "#agents tbody tr > :first-child")
        page.evaluate(WATCH)
        for _ in range(5):
            before = page.locator("#freshness").inner_text()
            page.wait_for_function("before => document.querySelector('#freshness').innerText !== before", arg=before)
        assert page.evaluate("window.shifts") == []
        assert texts(page, "#agents tbody tr > :first-child") == order


def rate(page: Page) -> float:
    return float(
        page.locator("#tiles [data-key^='Envelopes'] .figure").inner_text().replace(",", "").strip("\u2013") or 0
    )


@contextmanager
def publishing(amqp_url: str) -> Iterator[None]:
    """Publish at a rate that changes the figures each second."""
    command = (sys.executable, "-m", "busmon", "simulate", "--rate", "10")
    environment = {**os.environ, "BUSMON_AMQP_URL": amqp_url, "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.3"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
