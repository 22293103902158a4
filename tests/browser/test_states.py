import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from playwright.sync_api import Browser, Page

from busmon import status
from busmon.demo.broker import PrivateNode
from busmon.status import ShardStatus
from tests.browser.conftest import free_address
from tests.browser.looked_at import LIVE, opened, texts, violations
from tests.fleet.exporting import exporter
from tests.fleet.real_fleet import RealFleet
from tests.unit.exporter.fleet import shard, supervisor, worker

STALE = "body[data-state=stale]"


def test_without_a_fleet_it_tells_how_to_start_one_and_publish(browser: Browser, tmp_path: Path) -> None:
    with exporter(tmp_path / "nothing yet") as (_, port), opened(browser, f"127.0.0.1:{port}") as page:
        assert page.locator("#health").inner_text().strip() == "No fleet"
        start = page.locator("#start").inner_text()
        assert "busmon up" in start
        assert "busmon publish tasks_processed_total 1" in start
        assert f"127.0.0.1:{port}" in start
        assert page.get_by_text("No agent has published yet.").is_visible()
        assert violations(page) == []


def test_a_dead_fleet_is_said_first(browser: Browser, tmp_path: Path) -> None:
    invented(tmp_path, shard(0), beat_at=time.time() - 60)
    with exporter(tmp_path) as (_, port), opened(browser, f"127.0.0.1:{port}") as page:
        assert health(page) == ("Dead", "bad")
        assert any("no worker has beaten for" in line for line in texts(page, "#reasons li"))
        assert violations(page) == []


def test_a_fleet_that_ends_in_order_isnt_dead(browser: Browser, tmp_path: Path) -> None:
    stopping = replace(supervisor(workers=1), stopping=True)
    status.write(tmp_path, replace(stopping, started_at=time.time() - 100, beat_at=time.time() + 3600))
    with exporter(tmp_path) as (_, port), opened(browser, f"127.0.0.1:{port}") as page:
        assert health(page) == ("Stopping", "fair")
        assert texts(page, "#reasons li") == ["the fleet is stopping"]
        assert violations(page) == []


def test_a_shard_that_isnt_consumed_is_said_first_and_where_it_stands(browser: Browser, tmp_path: Path) -> None:
    invented(tmp_path, shard(0, "blocked", "the broker is short of memory"), beat_at=time.time() + 3600)
    with exporter(tmp_path) as (_, port), opened(browser, f"127.0.0.1:{port}") as page:
        assert health(page) == ("Not ready", "bad")
        assert "shard 0 is blocked: the broker is short of memory" in texts(page, "#reasons li")
        assert texts(page, "#flow-queues .words") == ["blocked"]
        assert violations(page) == []


def invented(directory: Path, owned: ShardStatus, beat_at: float) -> None:
    """The status files of a fleet of one worker; a beat to come keeps it up for as long as the test looks."""
    for process in (supervisor(workers=1), worker(0, owned)):
        status.write(directory, replace(process, started_at=time.time() - 100, beat_at=beat_at))


def health(page: Page) -> tuple[str, str | None]:
    pill = page.locator("#health")
    return pill.inner_text().strip(), pill.get_attribute("data-severity")


def test_a_restart_of_the_exporter_is_told_and_outlived(browser: Browser, node: PrivateNode, tmp_path: Path) -> None:
    node.vhost("restarted")
    url = node.amqp_url.replace("%2F", "restarted")
    with (
        RealFleet(tmp_path, url, "--workers", "1", BUSMON_LISTEN=free_address()) as fleet,
        browser.new_context() as context,
        context.new_page() as page,
    ):
        page.goto(f"http://{fleet.address}/")
        page.wait_for_selector(LIVE)
        os.kill(exporter_pid(fleet), signal.SIGSTOP)
        page.wait_for_selector(STALE)
        assert "stale since" in page.locator("#freshness").inner_text()
        os.kill(exporter_pid(fleet), signal.SIGKILL)
        page.wait_for_selector(LIVE)


def exporter_pid(fleet: RealFleet) -> int:
    """The fleet's exporter, whose supervisor is its parent."""
    children = Path(f"/proc/{fleet.process.pid}/task/{fleet.process.pid}/children").read_text().split()
    return next(pid for pid in map(int, children) if b"exporter" in Path(f"/proc/{pid}/cmdline").read_bytes())
