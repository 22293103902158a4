"""A lane quarantines what can't be counted, alone, and counts its neighbours."""

import gzip
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from busmon.fleet.worker.trigger import Trigger
from busmon.registry.fold.fold import Fold
from busmon.registry.shard.shard import Shard
from busmon.registry.storage import values
from busmon.wire.envelope import Envelope
from tests.unit.fleet.full_disk import fill
from tests.unit.fleet.settlements import VOTE, Quarantined, Settled, Worker, body, delivery

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

# -- what can't be counted -------------------------------------------------------------------------------------------

POISON = body(VOTE, source="poison")


@pytest.fixture(params=["fold", "commit"])
def poisonous(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The poison makes the fold raise when it is half through, or the commit of any batch that it is in."""
    fold, commit = Fold.envelope, Shard.commit

    def fold_or_raise(self: Fold, envelope: Envelope, now: float, user: str | None) -> None:
        fold(self, envelope, now, user)
        if envelope.source == "poison":
            raise TypeError("Integer exceeds 64-bit range")

    def commit_or_raise(self: Shard, now: float) -> None:
        if "poison" in self.ledger.open.sources:
            raise TypeError("Integer exceeds 64-bit range")
        commit(self, now)

    if request.param == "fold":
        monkeypatch.setattr(Fold, "envelope", fold_or_raise)
    else:
        monkeypatch.setattr(Shard, "commit", commit_or_raise)


def with_poison() -> list[Any]:
    return [delivery(1), delivery(2, POISON, message_id="poison:1"), delivery(3), delivery(4)]


@pytest.mark.usefixtures("poisonous")
def test_a_body_that_cannot_be_counted_is_quarantined_alone_and_its_neighbours_are_counted(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver(with_poison())
        worker.lane.close(Trigger.INTERVAL)
        assert [bad.delivery.body for bad in worker.broker.quarantined] == [POISON]
        assert worker.broker.quarantined[0].headers["reason"] == "uncountable"
        assert worker.broker.settled == [1, 2, 3, 4]
        assert worker.votes() == 3
        assert worker.shows("busmon_envelopes_consumed_total") == 3
        assert worker.shows("busmon_envelopes_rejected_total", reason="uncountable") == 1


def test_a_body_that_no_file_can_hold_is_found_and_its_neighbours_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit fails, in the file's format, for a batch of which one body is too much; the worker goes on."""
    monkeypatch.setattr(values, "MAX_FILE_BYTES", 60_000)
    rows = [[f"{number:0250}", 1] for number in range(400)]
    table = {"name": "greedy_total", "type": "counter", "labels": ["k"], "rows": rows}
    greedy = orjson.dumps({"v": 1, "source": "greedy", "agent": "planner", "samples": [], "tables": [table]})
    with Worker(tmp_path) as worker:
        for tag in range(1, 6):
            worker.lane.deliver([delivery(tag, greedy if tag == 3 else None)])
        worker.lane.close(Trigger.SIZE)
        assert [bad.delivery.body for bad in worker.broker.quarantined] == [greedy]
        assert worker.broker.quarantined[0].headers["reason"] == "uncountable"
        assert worker.votes() == 4
        assert sorted(worker.broker.settled) == [1, 2, 3, 4, 5]
        assert worker.shows("greedy_total") == 0


@pytest.mark.usefixtures("poisonous")
def test_a_disk_that_is_full_meanwhile_keeps_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(9)])
        worker.lane.close(Trigger.INTERVAL)
        with monkeypatch.context() as disk:
            fill("journal", disk)
            with suppress(OSError):
                worker.lane.deliver(with_poison())
            for _ in range(2):
                with pytest.raises(OSError, match="No space left"):
                    worker.lane.close(Trigger.INTERVAL)
        worker.lane.retry()
        assert sorted(worker.broker.settled) == [1, 2, 3, 4, 9]
        assert len(worker.broker.quarantined) == 1
        assert worker.votes() == 4


def test_a_commit_that_fails_without_any_delivery_blames_none_and_ends_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise TypeError("of our own")

    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1), delivery(2)])
        monkeypatch.setattr(Shard, "commit", fail)
        with pytest.raises(TypeError, match="of our own"):
            worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == []


# -- the quarantine --------------------------------------------------------------------------------------------------

BAD: list[tuple[str, bytes, dict[str, Any]]] = [
    ("empty_body", b"", {}),
    ("invalid_json", b'{"v": 1, "sou', {}),
    ("invalid_json", b"\xff\xfe", {}),
    ("version", b'{"v": 2}', {}),
    ("invalid_envelope", b"[]", {}),
    ("too_large", b"[" * 3000, {}),
    ("too_large", gzip.compress(bytes(10_000)), {"content_encoding": "gzip"}),
    ("content_type", body(), {"content_type": "text/html"}),
    ("content_encoding", body(), {"content_encoding": "gzip"}),
]


@pytest.mark.parametrize(("reason", "content", "properties"), BAD, ids=[f"{case[0]}-{case[2]}" for case in BAD])
def test_what_is_no_envelope_goes_to_quarantine_and_its_neighbours_are_counted(
    reason: str, content: bytes, properties: dict[str, Any], clock: SimpleNamespace, tmp_path: Path
) -> None:
    with Worker(tmp_path, max_body_bytes=2000) as worker:
        bad = delivery(2, content, app_id="planner", **properties)
        for each in (delivery(1), bad, delivery(3)):
            worker.lane.deliver([each])
        assert worker.broker.calls == []
        worker.lane.close(Trigger.SIZE)
        held, settled = worker.broker.calls
        assert isinstance(held, Quarantined)
        assert held.delivery is bad
        assert held.headers.pop("detail").startswith(f"{reason}: ")
        assert held.headers == {
            "reason": reason,
            "agent": "planner",
            "original_exchange": "telemetry",
            "original_routing_key": "planner.task",
            "queue": "telemetry.fold.0",
            "quarantined_at": repr(clock.now),
        }
        assert settled == Settled([1, 2, 3], votes=2)  # the broker's side passes over what it holds
        assert worker.shows("busmon_envelopes_rejected_total", reason=reason) == 1


def test_a_body_whose_app_id_is_no_text_goes_to_quarantine_with_it_escaped(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, b"nonsense", app_id=b"\xffplanner")])
        worker.lane.close(Trigger.SIZE)
        assert worker.broker.quarantined[0].headers["agent"] == r"\xffplanner"


def test_a_body_without_an_app_id_is_of_an_unknown_agent(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, b"nonsense")])
        worker.lane.close(Trigger.SIZE)
        assert worker.broker.quarantined[0].headers["agent"] == "unknown"


def test_bad_samples_are_counted_and_their_envelope_is_not_quarantined(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([delivery(1, body(VOTE, 7, {"name": "nodes", "value": 1}, VOTE))])
        worker.lane.close(Trigger.SIZE)
        assert worker.broker.calls == [Settled([1], votes=2)]
        assert worker.shows("busmon_samples_rejected_total", agent="planner") == 2


def test_rejected_samples_are_in_the_log_at_debug_once_they_are_counted(tmp_path: Path) -> None:
    bad = {"name": "queue_size", "labels": {"queue": "q"}, "value": "x"}
    with Worker(tmp_path) as worker, capture_logs() as logged:
        worker.lane.deliver([delivery(1, body(VOTE, bad))])
        worker.lane.void()
        worker.lane.deliver([delivery(1, body(VOTE, bad), redelivered=True)])
        assert logged == []
        worker.lane.close(Trigger.INTERVAL)
        worker.lane.deliver([delivery(2)])
        worker.lane.close(Trigger.INTERVAL)
    (line,) = logged
    assert line["log_level"] == "debug"
    assert line["event"] == "lane.sample_rejected"
    told = (line["agent"], line["reason"], line["name"], line["labels"], line["value"], line["why"])
    assert told == ("planner", "invalid_value", "queue_size", {"queue": "q"}, "x", "'value' is a number, got a string")
