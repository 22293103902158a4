"""Deliveries that arrive together go through each step together, and count the same as one by one."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from busmon.fleet.worker.trigger import Trigger
from busmon.registry.fold.fold import Fold
from busmon.settings.kinds import FormatRule
from busmon.wire.formats import Formats

from .settlements import VOTE, Worker, body, delivery


def test_ids_that_overtake_each_other_count_once_each(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, message_id=f"s:{tag}") for tag in (1, 3, 4, 2, 3)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.votes() == 4


def test_a_body_that_is_too_large_is_refused_alone(tmp_path: Path) -> None:
    large = body(*[VOTE] * 20)
    with Worker(tmp_path, max_body_bytes=200) as worker:
        worker.lane.deliver([delivery(1), delivery(2, large), delivery(3)])
        worker.lane.close(Trigger.INTERVAL)
        assert [refused.headers["reason"] for refused in worker.broker.quarantined] == ["too_large"]
        assert worker.votes() == 2


def test_a_rule_for_the_routing_key_holds_for_all_of_it(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("planner.*", "statsd")]) as worker:
        worker.lane.deliver([delivery(1), delivery(2, b"jobs:1|c")])
        worker.lane.close(Trigger.INTERVAL)
        assert [refused.headers["reason"] for refused in worker.broker.quarantined] == ["invalid_statsd"]
        assert worker.shows("jobs_total") == 1


def test_who_stops_with_the_last_of_it_is_gone(tmp_path: Path) -> None:
    final = b'{"v": 1, "source": "s", "agent": "planner", "ts": 1, "tables": [], "final": true}'
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1), delivery(2, final)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("active_agents", type="planner") == 0
        worker.lane.deliver([delivery(3), delivery(4, final), delivery(5)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("active_agents", type="planner") == 1


def test_every_source_of_other_formats_in_it_is_there(tmp_path: Path) -> None:
    with Worker(tmp_path, formats=[FormatRule("*", "influx")]) as worker:
        worker.lane.deliver([delivery(tag, f"up,host={tag} since=1\n".encode(), app_id="edge") for tag in (1, 2)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("active_agents", type="edge") == 2


def test_a_duplicate_in_it_leaves_its_neighbours_sizes(tmp_path: Path) -> None:
    small, large = body(VOTE), body(VOTE, VOTE)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, large), delivery(2, large, message_id="s:1"), delivery(3, small)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("message_size_bytes_sum", type="json") == len(large) + len(small)


def test_no_two_compressed_bodies_are_held_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, fold, held, most = Formats.decode, Fold.envelope, [0], [0]

    def decoding(*arguments: Any) -> Any:
        held[0] += 1
        most[0] = max(most[0], held[0])
        return decode(*arguments)

    def folding(*arguments: Any) -> None:
        fold(*arguments)
        held[0] -= 1

    monkeypatch.setattr(Formats, "decode", decoding)
    monkeypatch.setattr(Fold, "envelope", folding)
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, gzip.compress(body(VOTE)), content_encoding="gzip") for tag in (1, 2, 3)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.votes() == 3
    assert most == [1]


def test_who_may_kill_is_looked_at_alone_and_in_its_place(tmp_path: Path) -> None:
    gauge = {"name": "queue_size", "labels": {"queue": "tasks"}}
    bodies = [body({**gauge, "value": value}) for value in (9, 8, 7)]
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(tag, each, redelivered=tag == 2) for tag, each in enumerate(bodies, start=1)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("queue_size", queue="tasks") == 7
        assert worker.broker.settled == [1, 2, 3]
