"""Hosts whose clocks are 25 hours apart: a source is forgotten after 24, and a takeover is no silence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.fleet.publishing import envelope, publish
from tests.fleet.replicated import COUNTER, Host, declare, envelopes, make_host
from tests.patience import wait_until
from tests.replication.exact import SOURCES, require_exact
from tests.replication.watch import Watch

if TYPE_CHECKING:
    from pathlib import Path

    import pika

pytestmark = pytest.mark.timeout(600)

HOUR = 3600
APART = 25 * HOUR
SITE = """
import time

def ahead(read, by):
    return lambda: read() + by

time.time = ahead(time.time, {seconds})
time.time_ns = ahead(time.time_ns, {seconds} * 1_000_000_000)
"""
"""Each Python process imports it as it starts, as `sitecustomize`."""


def clock_ahead(directory: Path, seconds: int) -> dict[str, str]:
    """Return the environment of processes whose wall clock is so many seconds ahead."""
    path = directory / f"clock{seconds}"
    path.mkdir(exist_ok=True)
    (path / "sitecustomize.py").write_text(SITE.format(seconds=seconds))
    return {"PYTHONPATH": str(path)}


def level(value: int) -> list[tuple[bytes, pika.BasicProperties]]:
    """A reading of one gauge, from a source of its own. A time in the future is the owner's present."""
    sample = {"name": "queue_depth", "type": "gauge", "labels": {}, "value": value, "ts": time.time() + 2 * APART}
    return [envelope("gauge", value, [sample])]


def require_gauges(value: int, *fleet: Host) -> None:
    """Wait until each host shows the last reading, and the sources that were heard a moment ago."""
    for host in fleet:
        wait_until(lambda host=host: host.totals().get("queue_depth") == value, f"the gauge at {host.name}")  # type: ignore[misc]
        wait_until(lambda host=host: host.totals().get("active_agents") == SOURCES + 1, f"all sources at {host.name}")  # type: ignore[misc]


def says_clocks_differ(host: Host) -> bool:
    """Return whether the host says that its clock isn't that of an owner."""
    return any(line.startswith("this host's clock is 1d 1h") for line in host.ready()["degraded"])


@pytest.mark.parametrize("seconds", [APART, -APART], ids=["ahead", "behind"])
def test_clocks_a_day_apart_forget_no_source_and_hide_no_gauge(vhost: Any, tmp_path: Path, seconds: int) -> None:
    declare(vhost)
    with make_host(vhost, tmp_path / "first", **clock_ahead(tmp_path, -HOUR)) as early:
        publish(vhost.amqp_url, envelopes(1, SOURCES))
        early.wait_for_total(COUNTER, SOURCES)
        early.destroy()
    with (
        make_host(vhost, tmp_path / "first") as first,
        make_host(vhost, tmp_path / "second", **clock_ahead(tmp_path, seconds)) as second,
        Watch(first, second),
    ):
        publish(vhost.amqp_url, envelopes(1, SOURCES) + envelopes(2, SOURCES) + level(2))
        require_exact(vhost, 2 * SOURCES, first, second)
        require_gauges(2, first, second)
        wait_until(
            lambda: says_clocks_differ(first) or says_clocks_differ(second), "a host that says how clocks differ"
        )
        for sequence, (dying, other) in enumerate([(first, second), (second, first)], start=3):
            dying.destroy()
            publish(vhost.amqp_url, envelopes(1, SOURCES) + envelopes(sequence, SOURCES) + level(sequence))
            other.wait_for_total(COUNTER, sequence * SOURCES)
            require_gauges(sequence, other)
            dying.start()
            require_exact(vhost, sequence * SOURCES, first, second)
            require_gauges(sequence, first, second)
