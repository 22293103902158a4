"""A standby's shard: it is consumed from once it is taken, and its worker's successor doesn't wait again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pika.adapters.select_connection import IOLoop

from busmon.bus.consume.consumer import Consumer
from busmon.bus.consume.depths import Depth
from busmon.bus.topology import topology as topologies
from busmon.fleet.worker.owned_shard import OwnedShard, SharedParts
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.paced_log import PacedLog
from busmon.registry.admission.families import Families
from busmon.settings import Settings
from tests.unit.fleet.later import Later
from tests.unit.registry.registries import CATALOGUE

from .test_pace import FULL, full_disk

STANDBY_SECONDS = 30.0
DROPPED = "telemetry.quarantine.dropped"


class Worker:
    """The parts of a worker on a standby host, which isn't connected."""

    def __init__(self, directory: Path) -> None:
        settings = Settings(registry_dir=directory, standby_seconds=STANDBY_SECONDS)
        self.topology = topologies.load(None, settings.exchange)
        self.later = Later()
        self.ioloop = IOLoop()
        self.consumer = Consumer(
            settings.amqp_url,
            quarantine_exchange=self.topology.quarantine,
            prefetch=10,
            name="test",
            ioloop=self.ioloop,
            ring=self.topology.ring,
            waiting=self.topology.waiting,
        )
        families = Families(directory, CATALOGUE, settings.max_adopted_families)
        parts = SharedParts(
            settings,
            self.topology,
            Ownership(),
            families,
            PacedLog(),
            self.consumer,
            self.later,
            0.0,
            lambda: None,
            lambda: None,
            lambda _shard: None,
        )
        self.shard = OwnedShard(0, parts, [])
        forwarder = self.consumer._forwarder
        assert forwarder is not None
        self.consumer._channels[forwarder.queue] = forwarder.channel  # as `start` does, before it connects
        self.shard.stand_by()

    def suspended(self) -> set[str]:
        """The queues that aren't consumed from."""
        return {queue for queue, channel in self.consumer._channels.items() if channel._is_suspended}


@contextmanager
def worker(directory: Path) -> Iterator[Worker]:
    worker = Worker(directory)
    try:
        yield worker
    finally:
        worker.shard.close()
        worker.ioloop.close()


def take_over(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue be without a consumer for as long as it takes."""
    for now in (1000.0, 1000.0 + STANDBY_SECONDS):
        with monkeypatch.context() as clock:
            clock.setattr("busmon.fleet.worker.owned_shard.time.monotonic", lambda now=now: now)
            worker.shard._note_depth(Depth(0, 0))


def test_a_shard_that_is_taken_is_consumed_from_and_forwarded_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(tmp_path) as standby:
        assert standby.suspended() == {standby.shard.queue, DROPPED, standby.topology.waiting}
        take_over(standby, monkeypatch)
        assert standby.suspended() == set()


def test_a_shard_that_is_taken_while_its_files_take_no_commit_is_consumed_from_once_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(tmp_path) as standby:
        with full_disk():
            standby.shard._pace.run(lambda: standby.shard._shard.commit(1.0))
            assert standby.shard._pace.error == FULL
            take_over(standby, monkeypatch)
            assert standby.suspended() == {standby.shard.queue, DROPPED}
            standby.later.pass_(2)
            assert standby.suspended() == {standby.shard.queue, DROPPED}
        standby.later.pass_(2)
        assert (standby.shard._pace.error, standby.suspended()) == ("", set())


def test_files_that_take_commits_again_before_a_takeover_leave_the_shard_to_its_host(tmp_path: Path) -> None:
    with worker(tmp_path) as standby:
        with full_disk():
            standby.shard._pace.run(lambda: standby.shard._shard.commit(1.0))
        standby.later.pass_(2)
        assert standby.shard._pace.error == ""
        assert standby.suspended() == {standby.shard.queue, DROPPED, standby.topology.waiting}


def test_a_successor_of_a_crashed_worker_goes_on_and_one_of_an_orderly_end_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(tmp_path) as first:
        take_over(first, monkeypatch)
        gauge = {"name": "queue_size", "labels": {"queue": "q"}, "value": 7}
        first.shard._shard.fold._sample(gauge, "s", 1000.0, 1000.0)
        first.shard._shard.ledger.hear("s", 1000.0, None, "a")
        first.shard._shard.commit(1000.0)
    with worker(tmp_path) as second:  # no drain: the first one has crashed
        assert second.suspended() == set()
        second.shard.beat(1001.0)
        assert second.shard._shard._files.columns["gauge_mostrecent"].shares.latest_at("s") == 1000.0
        second.shard.drain()
        second.shard.beat(1002.0)  # until the connections are closed
    with worker(tmp_path) as third:
        assert third.suspended() == {third.shard.queue, DROPPED, third.topology.waiting}
