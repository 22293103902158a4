"""A lane acknowledges what is committed and nothing else, whatever its deliveries are and whoever dies meanwhile."""

import gzip
import os
from collections import Counter
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from busmon.fleet.worker import open_batch as batches
from busmon.fleet.worker.paced_log import LINES
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.storage.journal import Journal
from busmon.settings.kinds import FormatRule
from tests.unit.fleet.full_disk import fill, full
from tests.unit.fleet.settlements import NOW, VOTE, Settled, Worker, body, delivery
from tests.unit.wire.producers import of_a_host

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


# -- batches ---------------------------------------------------------------------------------------------------------


def test_nothing_is_acknowledged_before_it_is_committed(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag in (1, 2, 3):
            worker.lane.deliver([delivery(tag)])
        assert worker.broker.calls == []
        assert worker.votes() == 0
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([1, 2, 3], votes=3)]
        worker.lane.close(Trigger.INTERVAL)
        assert len(worker.broker.calls) == 1


def test_a_full_batch_is_committed_and_what_arrived_with_it_begins_the_next(tmp_path: Path) -> None:
    with Worker(tmp_path, batch_size=3) as worker:
        worker.lane.deliver([delivery(tag) for tag in range(1, 8)])
        assert worker.broker.calls == [Settled([1, 2, 3], votes=3), Settled([4, 5, 6], votes=6)]
        assert worker.lane.opened_at is not None
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.settled == [*range(1, 8)]
        assert worker.shows("busmon_batches_total", trigger="size") == 2


@pytest.mark.usefixtures("at_once")
def test_large_bodies_fill_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "MAX_BATCH_BYTES", 1000)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, b"x" * 400) for tag in (1, 2, 3, 4)])
        assert worker.broker.settled == [1, 2, 3]


def test_an_open_batch_knows_when_it_was_opened_whatever_becomes_of_the_clock(
    clock: SimpleNamespace, tmp_path: Path
) -> None:
    with Worker(tmp_path) as worker:
        assert worker.lane.opened_at is None
        for running, clock.now in ((5.0, NOW), (6.0, NOW - 3600)):
            clock.monotonic = lambda running=running: running
            worker.lane.deliver([delivery(int(running))])
        opened_at = [worker.lane.opened_at]
        worker.lane.close(Trigger.INTERVAL)
        opened_at.append(worker.lane.opened_at)
        assert opened_at == [5.0, None]
        assert worker.lane.committed_at == NOW - 3600


def test_what_arrives_together_is_in_order(tmp_path: Path) -> None:
    gauge = {"name": "queue_size", "labels": {"queue": "tasks"}}
    totals = [f"# TYPE jobs_total counter\njobs_total {total}\n".encode() for total in (10, 20, 30)]
    with Worker(tmp_path, formats=[FormatRule("prometheus.*", "prometheus")]) as worker:
        worker.lane.deliver([delivery(tag, body({**gauge, "value": value})) for tag, value in ((1, 100), (2, 5))])
        worker.lane.deliver(
            [
                delivery(tag, total, message_id=f"p{tag}", app_id="planner")._replace(routing_key="prometheus.a")
                for tag, total in enumerate(totals, start=3)
            ]
        )
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("queue_size", queue="tasks") == 5
        assert worker.shows("jobs_total", agent="planner") == 30
        assert worker.shows("busmon_samples_rejected_total") == 0


def test_two_senders_that_look_like_one_are_named_once_with_what_to_set(tmp_path: Path) -> None:
    boots = (1_000_000_000, 1_200_000_000)
    with Worker(tmp_path, formats=[FormatRule("otlp_metrics", "otlp")]) as worker, capture_logs() as logged:
        for number in range(1, 4):
            for boot in boots:
                published = of_a_host(boot, int(NOW) - 10 + number, number, number)
                tag = 2 * number + boots.index(boot)
                worker.lane.deliver([delivery(tag, published, message_id=None)._replace(routing_key="otlp_metrics")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("system_cpu_time_seconds_total") == 2 * 3
    (warning,) = [entry for entry in logged if entry["event"] == "lane.sources_confused"]
    assert warning["log_level"] == "warning"
    assert warning["source"].endswith("otlp_metrics")
    assert "host.name" in warning["advice"]


@pytest.mark.usefixtures("at_once")
def test_of_many_names_that_two_senders_share_each_is_named_once_a_few_in_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = [0.0]
    tags = iter(range(1, 1000))
    with Worker(tmp_path, formats=[FormatRule("otlp_metrics", "otlp")]) as worker, capture_logs() as logged:
        monkeypatch.setattr(worker.paced_log, "_clock", lambda: 60.0 * minute[0])
        for number in range(1, 5):
            for boot, host in product((1_000_000_000, 1_200_000_000), range(LINES + 3)):
                published = of_a_host(boot, int(NOW) - 10 + number, number, number)
                sent = delivery(next(tags), published, message_id=None, app_id=f"host-{host}")
                worker.lane.deliver([sent._replace(routing_key="otlp_metrics")])
            minute[0] += number != 1
        worker.lane.close(Trigger.INTERVAL)
    named = [entry["source"] for entry in logged if entry["event"] == "lane.sources_confused"]
    assert len(named) == LINES + 3
    assert {name.split("/")[-2] for name in named} == {f"host-{host}" for host in range(LINES + 3)}


def test_a_users_confused_senders_hide_no_other_users(tmp_path: Path) -> None:
    tags = iter(range(1, 1000))
    users = ["greedy"] * (LINES + 3) + ["honest"]
    with Worker(tmp_path, formats=[FormatRule("otlp_metrics", "otlp")]) as worker, capture_logs() as logged:
        for number in range(1, 4):
            for boot, (host, user) in product((1_000_000_000, 1_200_000_000), enumerate(users)):
                published = of_a_host(boot, int(NOW) - 10 + number, number, number)
                sent = delivery(next(tags), published, message_id=None, app_id=f"host-{host}", user_id=user)
                worker.lane.deliver([sent._replace(routing_key="otlp_metrics")])
        worker.lane.close(Trigger.INTERVAL)
    named = [entry["user"] for entry in logged if entry["event"] == "lane.sources_confused"]
    assert Counter(named) == {"greedy": LINES, "honest": 1}


def test_batches_are_counted_by_what_closed_them(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag, trigger in enumerate((Trigger.SIZE, Trigger.INTERVAL, Trigger.SIZE, Trigger.DRAIN), start=1):
            worker.lane.deliver([delivery(tag)])
            worker.lane.close(trigger)
        worker.lane.close(Trigger.DRAIN)
        assert [worker.shows("busmon_batches_total", trigger=t) for t in ("size", "interval", "drain")] == [2, 1, 1]


def test_a_duplicate_is_acknowledged_and_not_counted_again(tmp_path: Path) -> None:
    for _ in range(2):
        with Worker(tmp_path) as worker:
            worker.lane.deliver([delivery(1)])
            worker.lane.deliver([delivery(2, message_id="s:1", redelivered=True)])
            worker.lane.close(Trigger.SIZE)
            assert worker.broker.calls == [Settled([1, 2], votes=1)]
    with Worker(tmp_path) as worker:
        assert worker.shows("busmon_envelopes_deduplicated_total", shard="0") == 3
        assert worker.shows("busmon_envelopes_consumed_total", shard="0") == 1


def test_what_cannot_be_identified_is_counted_and_said(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag, message_id in enumerate((None, None, "s:7"), start=1):
            worker.lane.deliver([delivery(tag, message_id=message_id)])
        worker.lane.close(Trigger.SIZE)
        assert worker.votes() == 3
        assert worker.shows("busmon_envelopes_unidentified_total", shard="0") == 2
        assert worker.shows("busmon_envelopes_unverifiable_total", shard="0") == 1
        assert worker.shows("busmon_envelopes_consumed_total", shard="0") == 3


def test_a_body_without_an_id_counts_once_where_its_own_bytes_tell_it_from_others(tmp_path: Path) -> None:
    counted = b"net,host=a packets=7 1763794799000000000"
    rules = [FormatRule("influx.*", "influx"), FormatRule("statsd.*", "statsd")]
    with Worker(tmp_path, formats=rules) as worker:
        for tag in (1, 2):
            worker.lane.deliver([delivery(tag, counted, message_id=None)._replace(routing_key="influx.a")])
        for tag in (3, 4):
            worker.lane.deliver([delivery(tag, b"hits:1|c", message_id=None)._replace(routing_key="statsd.a")])
        worker.lane.close(Trigger.SIZE)
        assert worker.shows("net_packets", host="a") == 7
        assert worker.shows("hits_total") == 2
        assert worker.shows("busmon_envelopes_deduplicated_total", shard="0") == 1
        assert worker.shows("busmon_envelopes_unidentified_total", shard="0") == 2
        assert worker.shows("message_size_bytes_count", type="influx") == 1
        assert worker.shows("message_size_bytes_count", type="statsd") == 2


def test_each_source_of_a_body_lives_by_itself(clock: SimpleNamespace, tmp_path: Path) -> None:
    both = b"up,host=a since=1\nup,host=b since=2\n"
    with Worker(tmp_path, formats=[FormatRule("*", "influx")]) as worker:
        worker.lane.deliver([delivery(1, both, message_id=None)])
        worker.lane.close(Trigger.INTERVAL)
        clock.now += 100
        worker.lane.deliver([delivery(2, both, message_id=None)])
        worker.expire(NOW + 50)
        worker.lane.close(Trigger.INTERVAL)
        assert [worker.shows("up_since", host=host) for host in "ab"] == [1, 2]
        worker.expire(NOW + 150)
        assert [worker.shows("up_since", host=host) for host in "ab"] == [0, 0]


def test_a_voided_batch_never_happened_and_counts_when_it_comes_again(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag in (1, 2):
            worker.lane.deliver([delivery(tag)])
        worker.lane.deliver([delivery(3, b"nonsense")])
        worker.lane.void()
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == []
        assert worker.lane.opened_at is None
        for tag in (4, 5):
            worker.lane.deliver([delivery(tag, message_id=f"s:{tag - 3}", redelivered=True)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([4, 5], votes=2)]
        assert worker.shows("busmon_envelopes_rejected_total") == 0
        assert worker.shows("busmon_envelopes_consumed_total") == 2
        assert worker.shows("message_size_bytes_count") == 2


def test_a_commit_that_fails_keeps_the_batch_and_later_happens_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1)])
        worker.lane.deliver([delivery(2, b"nonsense")])
        with monkeypatch.context() as disk:
            disk.setattr(os, "posix_fallocate", full)
            for trigger in (Trigger.INTERVAL, Trigger.SIZE, Trigger.DRAIN):
                with pytest.raises(OSError, match="No space left"):
                    worker.lane.close(trigger)
                assert worker.broker.calls == []
                assert worker.votes() == 0
        worker.lane.deliver([delivery(3)])
        worker.lane.retry()
        assert worker.broker.settled == [1, 2, 3]
        assert [bad.delivery.delivery_tag for bad in worker.broker.quarantined] == [2]
        assert worker.votes() == 2
        assert worker.shows("busmon_batches_total") == 1
        assert worker.shows("busmon_envelopes_consumed_total") == 2
        assert worker.shows("busmon_envelopes_rejected_total", reason="invalid_json") == 1
        assert worker.shows("message_size_bytes_count") == 2


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(("unwritable", "redelivered"), [("families", False), ("suspect", True)])
def test_what_a_full_disk_keeps_from_being_folded_is_counted_later_and_once(
    unwritable: str,
    redelivered: bool,  # noqa: FBT001
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new = body(VOTE, {"name": "boxes_total", "type": "counter", "value": 1})
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1)])
        with monkeypatch.context() as disk:
            fill(unwritable, disk)
            with pytest.raises(OSError, match="No space left"):
                worker.lane.deliver([delivery(2, new, redelivered=redelivered), delivery(3)])
            worker.lane.deliver([delivery(4)])
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    worker.lane.retry()
            assert worker.broker.calls == []
        worker.lane.retry()
        assert worker.broker.calls == [Settled([1, 2, 3, 4], votes=4)]
        assert worker.shows("boxes_total") == 1
        assert worker.shows("busmon_envelopes_consumed_total") == 4
        assert worker.shows("busmon_envelopes_deduplicated_total") == 0


def test_what_a_batch_measures_of_itself_outlives_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(VOTE, {"name": "votes_cast_total", "value": "many"}))])
        with monkeypatch.context() as disk:
            fill("families", disk)
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    worker.lane.close(Trigger.INTERVAL)
        worker.lane.close(Trigger.INTERVAL)
        assert worker.votes() == 1
        assert worker.shows("busmon_envelopes_consumed_total") == 1
        assert worker.shows("busmon_samples_folded_total", type="counter") == 1
        assert worker.shows("busmon_samples_rejected_total") == 1
        assert worker.shows("message_size_bytes_count") == 1
        assert worker.shows("busmon_batches_total") == 1


def test_a_batch_whose_commit_failed_may_be_voided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1)])
        with monkeypatch.context() as disk:
            disk.setattr(os, "posix_fallocate", full)
            with pytest.raises(OSError, match="No space left"):
                worker.lane.close(Trigger.INTERVAL)
        worker.lane.void()
        worker.lane.deliver([delivery(2, message_id="s:1")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([2], votes=1)]
        assert worker.shows("busmon_envelopes_consumed_total") == 1


def test_silent_sources_leave_and_the_open_batch_stays_open(clock: SimpleNamespace, tmp_path: Path) -> None:
    agents = {"name": "active_agents", "labels": {"type": "planner"}, "value": 1}
    with Worker(tmp_path) as worker:
        worker.expire(NOW - 50)  # the first beat tidies, too
        worker.lane.deliver([delivery(1, body(agents, source="old"), message_id="old:1")])
        worker.lane.close(Trigger.INTERVAL)
        clock.now += 100
        worker.lane.deliver([delivery(2, body(agents, source="new"), message_id="new:1")])
        worker.expire(NOW + 50)
        assert worker.broker.settled == [1]
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("active_agents") == 1
        worker.expire(NOW + 150)
        assert worker.broker.settled == [1, 2]
        assert worker.shows("active_agents") == 0


@pytest.fixture
def slow_clock(clock: SimpleNamespace) -> None:
    """Let a second pass with each look at the clock, so that a slice of work is one delivery."""
    seconds = iter(range(10_000))
    clock.monotonic = lambda: float(next(seconds))


@pytest.mark.usefixtures("slow_clock", "at_once")
def test_what_takes_long_is_folded_in_slices_and_says_that_the_worker_lives(tmp_path: Path) -> None:
    """The loop has its turn between the slices: heartbeats, acks and the other lanes."""
    lived: list[int] = []
    packed = gzip.compress(body(VOTE))
    with Worker(tmp_path, progress=lambda: lived.append(1)) as worker:
        worker.lane.deliver([delivery(tag, packed, content_encoding="gzip") for tag in range(1, 4)])
        assert (len(lived), worker.lane.is_behind) == (1, True)
        worker.lane.deliver([delivery(4, packed, content_encoding="gzip")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([1], votes=1)]
        worker.lane.work()
        worker.lane.work()
        assert (len(lived), worker.lane.is_behind) == (3, True)
        worker.lane.work()
        assert (len(lived), worker.lane.is_behind) == (4, False)
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([1], votes=1), Settled([2, 3, 4], votes=4)]


@pytest.mark.usefixtures("slow_clock", "at_once")
@pytest.mark.parametrize("trigger", [Trigger.DRAIN, Trigger.CANCEL])
def test_the_last_batch_has_what_waits(tmp_path: Path, trigger: Trigger) -> None:
    packed = gzip.compress(body(VOTE))
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, packed, content_encoding="gzip") for tag in range(1, 6)])
        worker.lane.close(trigger)
        assert worker.broker.calls == [Settled([1, 2, 3, 4, 5], votes=5)]
        assert not worker.lane.is_behind


@pytest.mark.usefixtures("slow_clock", "at_once")
def test_what_waits_is_forgotten_with_its_channel(tmp_path: Path) -> None:
    packed = gzip.compress(body(VOTE))
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, packed, content_encoding="gzip") for tag in range(1, 6)])
        worker.lane.void()
        assert not worker.lane.is_behind
        worker.lane.close(Trigger.DRAIN)
        assert worker.broker.calls == []


@pytest.mark.usefixtures("slow_clock", "at_once")
def test_what_waits_follows_what_the_files_did_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = gzip.compress(body(VOTE))
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, packed, content_encoding="gzip") for tag in range(1, 4)])
        with monkeypatch.context() as disk:
            disk.setattr(Journal, "commit", full)
            with pytest.raises(OSError, match="No space left"):
                worker.lane.close(Trigger.INTERVAL)
        worker.lane.deliver([delivery(4, packed, content_encoding="gzip")])
        assert not worker.lane.is_behind
        worker.lane.retry()
        assert worker.broker.calls == [Settled([1, 2, 3, 4], votes=4)]
