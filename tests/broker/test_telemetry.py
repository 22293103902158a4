"""The SDK against a real broker: what an agent's calls become, and what no failure of the broker costs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from busmon import Telemetry
from busmon.settings import Settings

from .proxy import Proxy
from .topologies import ONE_SHARD, QUEUE, TINY, Client, Place, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

UNREACHABLE = "amqp://guest:guest@127.0.0.1:1/"


def a_telemetry(amqp_url: str, interval_seconds: float = 0.05, **settings: Any) -> Telemetry:
    given: dict[str, Any] = {
        "amqp_url": amqp_url,
        "publish_interval_seconds": interval_seconds,
        "spool_bytes": 0,
    } | settings
    return Telemetry("analyzer", settings=Settings(**given), lifecycle=False)


def arrived(client: Client, enough: Callable[[list[Taken]], object]) -> list[Taken]:
    """Read the queue's messages, as soon as there are enough."""
    taken: list[Taken] = []

    def take() -> bool:
        taken.extend(client.take(QUEUE, client.ready(QUEUE)))
        return bool(enough(taken))

    client.until(take, "enough envelopes")
    return taken


def tables(taken: Iterable[Taken]) -> list[dict[str, Any]]:
    return [table for each in taken for table in orjson.loads(each.body)["tables"]]


def total(taken: Iterable[Taken], name: str) -> float:
    """Sum a counter's rows, each message id once, as the fleet counts."""
    once = {each.properties.message_id: each for each in taken}.values()
    return float(sum(row[-1] for table in tables(once) if table["name"] == name for row in table["rows"]))


def test_an_agents_calls_arrive_as_one_envelope(place: Place, client: Client) -> None:
    with a_telemetry(place.amqp_url, 3600) as telemetry:
        tasks = telemetry.counter("tasks_processed_total", labelnames=["agent", "status"])
        for _ in range(1000):
            tasks.labels("analyzer", "success").inc()
        with telemetry.histogram("task_duration_seconds", labelnames=["agent"]).labels("analyzer").time() as timer:
            pass
        telemetry.gauge("queue_size", labelnames=["queue"]).labels("tasks").set(42)
        telemetry.summary("reply_bytes").observe(512)
        began = time.time()
    taken, leave = arrived(client, lambda taken: len(taken) == 2)
    assert orjson.loads(leave.body)["final"] is True
    envelope = orjson.loads(taken.body)
    (size,) = [table for table in envelope["tables"] if "ts" in table]
    assert abs(size.pop("ts") - began) < 5
    assert abs(envelope.pop("ts") - began) < 5
    assert envelope == {
        "v": 1,
        "source": telemetry.source,
        "agent": "analyzer",
        "tables": [
            {
                "name": "tasks_processed_total",
                "labels": ["agent", "status"],
                "rows": [["analyzer", "success", 1000]],
            },
            {"name": "task_duration_seconds", "labels": ["agent"], "rows": [["analyzer", [timer.duration]]]},
            {"name": "queue_size", "labels": ["queue"], "rows": [["tasks", 42]]},
            {"name": "reply_bytes", "type": "summary", "labels": [], "rows": [[[512.0]]]},
        ],
    }


def test_a_gauge_that_outlives_its_source_says_so_once(place: Place, client: Client) -> None:
    with a_telemetry(place.amqp_url, presence_ttl_seconds=0.3) as telemetry:
        telemetry.gauge("backup_size_bytes", outlives_source=True).set(42)
        taken = arrived(client, lambda taken: len(taken) >= 4)
    (table,) = tables(taken)
    assert {**table, "ts": None} == {
        "name": "backup_size_bytes",
        "type": "gauge",
        "outlives_source": True,
        "ts": None,
        "labels": [],
        "rows": [[42]],
    }


def test_properties_are_what_the_fleet_goes_by(place: Place, client: Client) -> None:
    with a_telemetry(place.amqp_url, 3600) as telemetry:
        tasks, votes = telemetry.counter("hits_total"), telemetry.counter("votes_total", domain="business")
        for number in range(3):
            (tasks, votes)[number % 2].inc()
            assert telemetry.flush()
        taken = arrived(client, lambda taken: len(taken) == 3)
    assert [each.routing_key for each in taken] == ["analyzer.telemetry", "analyzer.business", "analyzer.telemetry"]
    assert [each.properties.message_id for each in taken] == [f"{telemetry.source}:{n}" for n in (1, 2, 3)]
    for each in taken:
        properties = each.properties
        assert (properties.content_type, properties.delivery_mode, properties.app_id) == (
            "application/json",
            2,
            "analyzer",
        )
        assert properties.headers["source"] == telemetry.source
        assert abs(properties.headers["published_at_ns"] / 1e9 - time.time()) < 60


def test_the_interval_publishes_without_being_asked(place: Place, client: Client) -> None:
    with a_telemetry(place.amqp_url) as telemetry:
        telemetry.counter("hits_total").inc()
        assert total(arrived(client, len), "hits_total") == 1


def test_a_source_with_nothing_to_say_says_that_it_lives(place: Place, client: Client) -> None:
    with a_telemetry(place.amqp_url, 3600, presence_ttl_seconds=0.3):
        taken = arrived(client, lambda taken: len(taken) >= 3)
    assert {each.routing_key for each in taken} == {"analyzer.lifecycle"}
    assert tables(taken) == []


def test_no_increment_is_lost_or_counted_twice_across_a_kill_of_the_broker(dedicated_node: Any, tmp_path: Path) -> None:
    Place.declared(dedicated_node.amqp_url, tmp_path, ONE_SHARD)
    telemetry = a_telemetry(dedicated_node.amqp_url)
    hits, seconds = telemetry.counter("hits_total"), telemetry.summary("seconds")
    stop, calls = threading.Event(), [0, 0]

    def work(worker: int) -> None:
        while not stop.wait(0.0005):
            hits.inc()
            seconds.observe(1)
            calls[worker] += 1

    workers = [threading.Thread(target=work, args=(worker,)) for worker in range(2)]
    for worker in workers:
        worker.start()
    assert telemetry.flush(30)
    dedicated_node.stop()
    assert not telemetry.flush(0.3)
    dedicated_node.start()
    assert telemetry.flush(60)
    stop.set()
    for worker in workers:
        worker.join()
    assert telemetry.close(30)
    with Client(dedicated_node.amqp_url) as client:
        taken = arrived(client, lambda taken: total(taken, "hits_total") >= sum(calls))
    once = {each.properties.message_id: each for each in taken}.values()
    observed = [row[-1] for table in tables(once) if table["name"] == "seconds" for row in table["rows"]]
    dropped = total(once, "busmon_publisher_dropped_total")
    assert total(taken, "hits_total") == sum(calls)
    assert sum(map(len, observed)) + dropped == sum(calls)
    sequences = [int(each.properties.message_id.rpartition(":")[2]) for each in once]
    assert sequences == sorted(sequences)


def test_a_full_queue_is_waited_for_in_order(vhost: Any, tmp_path: Path) -> None:
    place = Place.declared(vhost.amqp_url, tmp_path, ONE_SHARD, TINY)
    telemetry = a_telemetry(place.amqp_url)
    hits = telemetry.counter("hits_total")
    recorded = 0
    while telemetry.flush(0.2):
        recorded += 1
        hits.inc()
        assert recorded < 100
    hits.inc()
    with Client(place.amqp_url) as client:
        taken = arrived(client, lambda taken: total(taken, "hits_total") == recorded + 1)
        assert telemetry.close()
    ids = [each.properties.message_id for each in taken]
    assert ids == [f"{telemetry.source}:{number + 1}" for number in range(len(ids))]


def test_what_no_queue_takes_is_kept(place: Place, client: Client) -> None:
    client.channel.queue_unbind(QUEUE, "telemetry", "#")
    with a_telemetry(place.amqp_url) as telemetry:
        telemetry.counter("hits_total").inc()
        assert not telemetry.flush(0.3)
        client.channel.queue_bind(QUEUE, "telemetry", "#")
        assert telemetry.flush(30)
    assert total(arrived(client, len), "hits_total") == 1


def test_a_forked_child_counts_for_itself(place: Place, client: Client) -> None:
    telemetry = a_telemetry(place.amqp_url)
    hits, size = telemetry.counter("hits_total", labelnames=["who"]), telemetry.gauge("size")
    assert telemetry.flush(30)
    hits.labels("parent").inc(5)
    size.set(7)
    child = os.fork()
    if child == 0:
        hits.labels("child").inc(3)
        os._exit(0 if telemetry.close(30) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    hits.labels("parent").inc(2)
    assert telemetry.close(30)
    taken = arrived(client, lambda taken: total(taken, "hits_total") >= 10)
    rows = [(orjson.loads(each.body)["source"], row) for each in taken for row in _rows(each, "hits_total")]
    assert {row[0] for source, row in rows if source == telemetry.source} == {"parent"}
    assert [row for source, row in rows if source != telemetry.source] == [["child", 3]]
    assert total(taken, "hits_total") == 10
    assert len([row for each in taken for row in _rows(each, "size")]) == 1


def _rows(taken: Taken, name: str) -> list[Any]:
    return [row for table in tables([taken]) if table["name"] == name for row in table["rows"]]


class TestAnUnusableBroker:
    def test_calls_go_on_and_close_returns_at_once(self, caplog: pytest.LogCaptureFixture) -> None:
        telemetry = a_telemetry(UNREACHABLE, 0.01)
        hits = telemetry.counter("hits_total")
        for _ in range(20):
            hits.inc()
            assert not telemetry.flush(0.05)
        began = time.monotonic()
        assert not telemetry.close(0.3)
        assert not telemetry.close(0.3)
        assert not telemetry.flush(0.3)
        hits.inc()
        assert time.monotonic() - began < 2
        said = [record.getMessage() for record in caplog.records]
        assert len(said) == 2
        assert "Connection refused" in said[0]
        assert "closed with 2 samples not confirmed" in said[1]

    def test_the_variable_that_nobody_has_set_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delenv("BUSMON_AMQP_URL", raising=False)
        monkeypatch.chdir(tmp_path)
        exchange = "no-such-exchange"  # where a broker happens to run at the default address
        telemetry = Telemetry("analyzer", settings=Settings(exchange=exchange, spool_bytes=0), lifecycle=False)
        telemetry.counter("hits_total").inc()
        assert not telemetry.flush(5)
        telemetry.close(0)
        assert "; BUSMON_AMQP_URL isn't set, so this is the default address" in caplog.records[0].getMessage()

    def test_a_silent_one_holds_nobody(self, node: Any, place: Place) -> None:
        with Proxy(node.amqp_port) as proxy:
            telemetry = a_telemetry(place.amqp_url.replace(str(node.amqp_port), str(proxy.port)))
            hits = telemetry.counter("hits_total")
            hits.inc()
            assert telemetry.flush(30)
            proxy.silent = True
            began = time.monotonic()
            for _ in range(10_000):
                hits.inc()
            assert not telemetry.flush(0.2)
            assert not telemetry.close(0.5)
            assert time.monotonic() - began < 3
            proxy.silent = False

    def test_a_recovery_is_logged_once(self, place: Place, client: Client, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", logger="busmon")
        client.channel.queue_unbind(QUEUE, "telemetry", "#")
        with a_telemetry(place.amqp_url) as telemetry:
            telemetry.counter("hits_total").inc()
            for _ in range(5):
                assert not telemetry.flush(0.1)
            client.channel.queue_bind(QUEUE, "telemetry", "#")
            assert telemetry.flush(30)
            assert telemetry.flush(30)
        said = [record.getMessage() for record in caplog.records if record.name == "busmon"]
        assert [line.split(":")[0] for line in said] == [
            "telemetry is kept and tried again, since it can't be published",
            f"telemetry of {telemetry.source} is published again",
        ]


class TestInterpreterExit:
    PROGRAM = """
import sys, threading
from busmon import Telemetry
telemetry = Telemetry("analyzer", sys.argv[1], lifecycle=False)
hits = telemetry.counter("hits_total")
hits.inc()
if "flush" in sys.argv:
    assert telemetry.flush(30)
hits.inc(4)
if "threadless" in sys.argv:  # as Python 3.12.1 is from here on
    def refuse(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")
    threading.Thread.start = refuse
if "raise" in sys.argv:
    raise SystemExit(3)
"""

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", self.PROGRAM, *arguments], capture_output=True, text=True, timeout=60, check=False
        )

    @pytest.mark.parametrize("arguments", [(), ("threadless",), ("flush",), ("flush", "raise")])
    def test_what_was_recorded_is_published(self, place: Place, client: Client, arguments: tuple[str, ...]) -> None:
        ran = self.run(place.amqp_url, *arguments)
        assert (ran.returncode, ran.stderr) == (3 if "raise" in arguments else 0, "")
        assert total(arrived(client, lambda taken: total(taken, "hits_total") >= 5), "hits_total") == 5

    def test_nobody_waits_for_an_unusable_broker_beyond_the_deadline(self, node: Any, place: Place) -> None:
        with Proxy(node.amqp_port) as proxy:
            proxy.silent = True
            began = time.monotonic()
            ran = self.run(place.amqp_url.replace(str(node.amqp_port), str(proxy.port)))
            assert ran.returncode == 0
            assert time.monotonic() - began < 15
        assert [line.split(":")[0] for line in ran.stderr.splitlines()] == [
            "telemetry is kept and tried again, since it can't be published",
            "closed with 1 sample not confirmed",
        ]
