"""The fixtures of the browser tests: one fleet that a simulated platform has published to, and one browser."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import orjson
import pika
import pytest
from playwright.sync_api import Browser, Page

from busmon.catalogue import Catalogue
from busmon.demo import audit
from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import LOOPBACK, free_ports
from busmon.simulator.totals import Totals
from tests.browser import chromium
from tests.browser.looked_at import opened
from tests.fleet.publishing import properties, publish
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

HOSTILE = '<img src="x" onerror="alert(1)">'
LONG = "recommendation-engine-eu-central-1a-7f9c2d5b8-k3v9x-" + "replica" * 12


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium.running() as started:
        yield started


@pytest.fixture(scope="session")
def amqp_url(node: PrivateNode) -> str:
    return node.amqp_url


@pytest.fixture(scope="session")
def fleet(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealFleet]:
    """A fleet whose figures stand still: all that was published is counted."""
    directory = tmp_path_factory.mktemp("fleet")
    # A busy machine would have its CPU named among the reasons, and unnamed again.
    with RealFleet(directory, amqp_url, BUSMON_LISTEN=free_address(), BUSMON_CPU_THRESHOLD="1") as started:
        published = simulate(amqp_url, directory / "published.json")
        wait_until(lambda: counted(started, published), "everything to be counted")
        publish(amqp_url, [*rejects(), *greeting(LONG), (b"no envelope", properties("stranger", None))])
        wait_until(lambda: refused(started) == [1, 1], "what can't be counted to be told")
        yield started


@pytest.fixture
def page(browser: Browser, fleet: RealFleet) -> Iterator[Page]:
    with opened(browser, fleet.address) as looked_at:
        yield looked_at


def free_address() -> str:
    """An address that the exporter can come back to after a restart."""
    return f"{LOOPBACK}:{free_ports(1)[0]}"


def simulate(amqp_url: str, report: Path) -> Totals:
    """Publish as a platform of agents does, until it has ended; what it published."""
    command = (sys.executable, "-m", "busmon", "simulate", "--rate", "10", "--seconds", "4", "--totals", report)
    subprocess.run(command, env={**os.environ, "BUSMON_AMQP_URL": amqp_url}, capture_output=True, check=True)
    return Totals.from_document(orjson.loads(report.read_bytes()))


def rejects() -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """One good and one bad sample of an agent with a name that no page should take for markup."""
    labels = {"agent": HOSTILE, "status": "success"}
    samples = [{"name": "tasks_processed_total", "labels": labels, "value": value} for value in (1, -1)]
    document = {"v": 1, "source": "hostile", "agent": HOSTILE, "ts": time.time(), "samples": samples}
    yield orjson.dumps(document), properties("hostile", "hostile:1")


def greeting(agent: str) -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Give an empty envelope of an agent."""
    source = f"greeting-{uuid4()}"
    document = {"v": 1, "source": source, "agent": agent, "ts": time.time(), "samples": []}
    yield orjson.dumps(document), properties(source, f"{source}:1")


def counted(fleet: RealFleet, published: Totals) -> bool:
    """Tell whether all that was published is counted."""
    lines = audit.compare(published, fleet.get("/metrics")[1].decode(), Catalogue.load().families.values())
    return all(line.equal for line in lines)


def refused(fleet: RealFleet) -> list[float]:
    """How many envelopes and samples were."""
    totals = fleet.totals()
    return [totals.get(f"busmon_{what}_rejected_total", 0.0) for what in ("envelopes", "samples")]
