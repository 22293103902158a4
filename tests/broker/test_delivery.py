"""Exact counts through failures of the broker, its queues and the disk, and through kills: each sample counts once.

What the fleet would count is what its ledger would let pass: each message id once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import orjson

from tests.patience import wait_until

from .test_telemetry import a_telemetry, arrived, total
from .topologies import ONE_SHARD, QUEUE, Client, Place

if TYPE_CHECKING:
    from pathlib import Path

SMALL = 65_536
DROPPED = "busmon_publisher_dropped_total"


def observed(taken: list[Any]) -> int:
    """How many observations the fleet would count."""
    once = {each.properties.message_id: each for each in taken}.values()
    tables = [table for each in once for table in orjson.loads(each.body)["tables"] if table["name"] == "seconds"]
    return sum(len(row[-1]) for table in tables for row in table["rows"])


def spooled(directory: Path) -> list[Path]:
    return sorted(directory.glob("analyzer/*/*.telemetry"))


def test_a_long_outage_under_load_goes_to_disk_and_arrives_whole(dedicated_node: Any, tmp_path: Path) -> None:
    Place.declared(dedicated_node.amqp_url, tmp_path, ONE_SHARD)
    spool = tmp_path / "spool"
    telemetry = a_telemetry(dedicated_node.amqp_url, spool_dir=spool, spool_bytes=1 << 26, publish_buffer_bytes=SMALL)
    hits, seconds = telemetry.counter("hits_total"), telemetry.summary("seconds")
    shared = telemetry._series.shared
    hits.inc()
    assert telemetry.flush(30)
    dedicated_node.stop()
    calls = 0
    while len(spooled(spool)) < 10:
        for _ in range(200):
            hits.inc()
            seconds.observe(0.123456789)
        calls += 200
        assert calls < 1_000_000
        wait_until(lambda: shared.values <= shared.max_values // 2, "the publishing thread sealed what can't be folded")
    dedicated_node.start()
    assert telemetry.flush(60)
    assert telemetry.close(30)
    assert spooled(spool) == []
    with Client(dedicated_node.amqp_url) as client:
        taken = arrived(client, lambda taken: total(taken, "hits_total") >= calls + 1)
    assert total(taken, "hits_total") == calls + 1
    assert (observed(taken), total(taken, DROPPED)) == (calls, 0)


def test_a_queue_that_is_deleted_costs_nothing(place: Place, client: Client) -> None:
    with a_telemetry(place.amqp_url) as telemetry:
        hits = telemetry.counter("hits_total")
        hits.inc()
        assert telemetry.flush(30)
        first = client.take(QUEUE, client.ready(QUEUE))
        client.channel.queue_delete(QUEUE)
        hits.inc(2)
        assert not telemetry.flush(0.3)
        Place.declared(place.amqp_url, place.path.parent, ONE_SHARD)
        assert telemetry.flush(30)
        assert total([*first, *arrived(client, len)], "hits_total") == 3


def test_another_queue_that_is_full_holds_nothing_up_twice(place: Place, client: Client) -> None:
    client.channel.queue_declare("other", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    client.channel.queue_bind("other", "telemetry", "#")
    with a_telemetry(place.amqp_url) as telemetry:
        hits = telemetry.counter("hits_total")
        recorded = 0
        while telemetry.flush(0.3):
            recorded += 1
            hits.inc()
            assert recorded < 100
        hits.inc(5)
        client.channel.queue_delete("other")
        assert telemetry.flush(30)
    taken = arrived(client, lambda taken: total(taken, "hits_total") >= recorded + 5)
    assert total(taken, "hits_total") == recorded + 5
    assert len(taken) > len({each.properties.message_id for each in taken}), "what was nacked was stored here, too"


PROGRAM = """
import sys, time
from busmon import Telemetry
telemetry = Telemetry("analyzer", sys.argv[1])
hits, sizes = telemetry.counter("hits_total"), telemetry.summary("seconds")
if "outage" in sys.argv:
    hits.inc()
    telemetry.flush(0.5)
    while True:
        for _ in range(1000):
            sizes.observe(1)
        time.sleep(0.001)
hits.inc(10)
telemetry.flush(30)
telemetry.close(30)
"""


def test_what_was_on_disk_at_a_kill_is_counted_once(place: Place, client: Client, tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    environment = {
        **os.environ,
        "BUSMON_SPOOL_DIR": str(spool),
        "BUSMON_PUBLISH_BUFFER_BYTES": str(SMALL),
        "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.05",
    }
    client.channel.queue_unbind(QUEUE, "telemetry", "#")
    command = [sys.executable, "-c", PROGRAM, place.amqp_url]
    with subprocess.Popen([*command, "outage"], env=environment) as killed:
        wait_until(lambda: len(spooled(spool)) >= 20, "envelopes on disk")
        killed.send_signal(signal.SIGKILL)
    kept = spooled(spool)
    expected = sum(_observations(path) for path in kept)
    client.channel.queue_bind(QUEUE, "telemetry", "#")
    # An heir that is killed between publish and confirm leaves the files, and the next one sends them again.
    with subprocess.Popen(command, env=environment) as heir:
        wait_until(lambda: client.ready(QUEUE) > 0, "the first of them")
        heir.send_signal(signal.SIGKILL)
    again = subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    assert again.stderr == b""
    assert spooled(spool) == []
    taken = arrived(client, lambda taken: observed(taken) >= expected)
    assert observed(taken) == expected


def _observations(path: Path) -> int:
    tables = orjson.loads(path.read_bytes()[4:])["tables"]
    return sum(len(row[-1]) for table in tables if table["name"] == "seconds" for row in table["rows"])
