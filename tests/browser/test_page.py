import json
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser.conftest import HOSTILE
from tests.browser.looked_at import LIVE, PHONE, opened, texts, violations, wait_for
from tests.fleet.real_fleet import RealFleet


def overview(fleet: RealFleet) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(fleet.get("/overview")[1])
    return fields


def tile(page: Page, name: str) -> str:
    return page.locator(f"#tiles [data-key^='{name}']").inner_text()


def column(page: Page, table: str, number: int) -> list[str]:
    return texts(page, f"#{table} tbody tr > :nth-child({number})")


# -- what it shows ----------------------------------------------------------------------------------------------------


def test_the_figures_are_those_of_the_overview(page: Page, fleet: RealFleet) -> None:
    told = overview(fleet)
    in_shards = page.locator("#flow-registry [data-key=registry] dl [data-key='in all shards']")

    def is_shown() -> bool:
        """The page has the same second's figures: busmon's own series still come while the fleet is young."""
        nonlocal told
        told = overview(fleet)
        is_counted = f"{told['totals']['envelopes']:,.0f} in all" in tile(page, "Envelopes")
        return is_counted and in_shards.inner_text().split("\n")[-1] == f"{told['series']['used']:,}"

    wait_for(page, is_shown)
    assert f"{told['totals']['samples']:,.0f} in all" in tile(page, "Samples")
    assert "2 in all" in tile(page, "Not counted")
    assert page.locator("#flow-registry .title").first.inner_text() == f"{told['series']['shown']:,} series"
    assert page.locator("#flow-registry .fill").first.inner_text() == "of 1M"
    assert sorted(column(page, "agents", 1)) == sorted(row["agent"] for row in told["agents"])
    assert page.locator("#families-count").inner_text() == f"{told['families_known']} families"
    assert sorted(column(page, "families", 1)) == sorted(row["name"] for row in told["families"])
    series = dict(zip(column(page, "families", 1), column(page, "families", 3), strict=True))
    assert series == {row["name"]: f"{row['series']:,}" for row in told["families"]}


def test_the_flow_is_true_to_the_shards_and_who_owns_them(page: Page, fleet: RealFleet) -> None:
    told = overview(fleet)
    assert texts(page, "#flow-queues .title") == [row["queue"] for row in told["shards"]]
    assert texts(page, "#flow-queues .owner") == [f"worker {row['worker']}" for row in told["shards"]]
    assert texts(page, "#flow-workers .title") == [f"worker {row['worker']}" for row in told["workers"]]
    drawn = {edge.get_attribute("data-key") for edge in page.locator("#edges path").all()}
    owned = {f"flow-queues q{row['shard']} flow-workers w{row['worker']}" for row in told["shards"]}
    assert {edge for edge in drawn if edge and edge.startswith("flow-queues")} == owned


def test_what_was_not_counted_is_told_by_reason(page: Page) -> None:
    rows = texts(page, "#refused tbody tr")
    assert any("Sample rejected" in row and "negative increment" in row for row in rows)
    assert any("Quarantined" in row and "invalid json" in row for row in rows)


def test_the_last_rejected_samples_are_shown_with_what_was_stated_and_why(page: Page) -> None:
    (row,) = texts(page, "#rejected li")
    stated, why = row.split("\n")[0], row.split("\n")[-1]
    assert stated == f'tasks_processed_total{{agent="{HOSTILE}", status="success"}} -1'
    assert why.startswith(f"a counter's increment is 0 or more; from {HOSTILE}, ")


def test_the_quarantine_shows_what_is_in_it_now(page: Page) -> None:
    wait_for(page, lambda: texts(page, "#flow-registry [data-key=quarantine] dd") == ["1", "1"])
    assert texts(page, "#flow-registry [data-key=quarantine] .words") == ["not reviewed"]
    assert "1 body is in quarantine: busmon quarantine list shows why" in texts(page, "#reasons li")
    assert page.locator("#reasons h2").inner_text() == "Warnings"
    assert texts(page, "#reasons li code") == ["busmon quarantine list"]


def test_what_it_depends_on_is_told_in_words(page: Page) -> None:
    states = dict(zip(column(page, "dependencies", 1), column(page, "dependencies", 2), strict=True))
    assert states["rabbitmq"] == "connected"
    assert states["message queue"] == "available"


def test_a_name_that_a_publisher_made_up_stays_a_name(page: Page) -> None:
    assert HOSTILE in column(page, "agents", 1)
    assert page.locator("main img").count() == 0


# -- what can be done -------------------------------------------------------------------------------------------------


def test_families_are_found_by_name_and_type(page: Page, fleet: RealFleet) -> None:
    told = overview(fleet)["families"]
    page.get_by_placeholder("Filter by name").fill("agent_")
    page.locator("#families-type").select_option("gauge")
    wanted = sorted(row["name"] for row in told if "agent_" in row["name"] and row["type"] == "gauge")
    assert sorted(column(page, "families", 1)) == wanted
    assert page.locator("#families-count").inner_text() == f"{len(wanted)} of {len(told)} families"
    page.get_by_placeholder("Filter by name").fill("no such family")
    assert page.get_by_text("No family matches.").is_visible()


def test_a_click_sorts_a_column_and_another_turns_it_round(page: Page) -> None:
    button = page.locator("#families").get_by_role("button", name="Series", exact=True)
    button.click()
    series = [int(text.replace(",", "")) for text in column(page, "families", 3)]
    assert series == sorted(series, reverse=True)
    assert page.locator("#families th[aria-sort]").get_attribute("aria-sort") == "descending"
    button.click()
    assert column(page, "families", 3) == [f"{number:,}" for number in sorted(series)]


def test_the_theme_can_be_chosen_and_is_remembered(page: Page) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    for theme in ("light", "dark"):
        page.get_by_role("button", name="Theme").click()
        assert page.get_by_role("button", name="Theme").inner_text() == f"Theme: {theme}"
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_everything_can_be_reached_with_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    reached = []
    while (focused := page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")) != "":
        reached.append(focused)
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", focused
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body || document.activeElement.className === 'skip'"):
            break
    assert {"Agent", "families-name", "families-type", "Family", "/metrics", "/overview"} <= {*reached}


def test_a_column_is_sorted_with_the_keyboard(page: Page) -> None:
    page.locator("#agents").get_by_role("button", name="Agent").focus()
    page.keyboard.press("Enter")
    assert column(page, "agents", 1) == sorted(column(page, "agents", 1))
    assert page.locator("#agents th[aria-sort]").inner_text().startswith("Agent")


def test_a_selection_survives_updates(page: Page) -> None:
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#families tbody th'))")
    heard = page.locator("#freshness").inner_text()
    wait_for(page, lambda: page.locator("#freshness").inner_text() != heard)
    assert page.evaluate("getSelection().toString()") == column(page, "families", 1)[0]


# -- for everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1360, 900), PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_wrong(
    browser: Browser, fleet: RealFleet, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    with opened(browser, fleet.address, size=size, scheme=scheme) as page:
        assert violations(page) == []


@pytest.mark.parametrize("width", [320, 360, 768, 1024, 1100, 1360, 2000])
def test_nothing_scrolls_sideways(browser: Browser, fleet: RealFleet, width: int) -> None:
    with opened(browser, fleet.address, size=(width, 800)) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_moves_for_who_asks_for_stillness(browser: Browser, fleet: RealFleet) -> None:
    with opened(browser, fleet.address, reduced_motion="reduce") as page:
        assert page.evaluate("document.getAnimations().length") == 0


def test_without_javascript_it_says_where_the_figures_are(browser: Browser, fleet: RealFleet) -> None:
    with browser.new_context(java_script_enabled=False) as context, context.new_page() as page:
        page.goto(f"http://{fleet.address}/")
        assert page.get_by_role("link", name="/overview").first.is_visible()
        assert "busmon top" in page.locator("noscript").inner_text()


def test_what_it_loads_takes_less_than_200_kilobytes(browser: Browser, fleet: RealFleet) -> None:
    with opened(browser, fleet.address) as page:
        assert page.locator(LIVE).count() == 1
        sizes = page.evaluate(
            "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
            ".filter(({ name }) => !name.endsWith('/stream')).map(({ decodedBodySize }) => decodedBodySize)"
        )
    assert len(sizes) >= 3
    assert sum(sizes) < 200_000
