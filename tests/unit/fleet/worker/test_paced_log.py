"""A flood of bodies writes few lines, and no line is left out without a word."""

import logging
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from busmon.fleet.worker.paced_log import LINES, MAX_KINDS, PERIOD_SECONDS, PacedLog
from busmon.fleet.worker.trigger import Trigger
from tests.unit.fleet.settlements import VOTE, Worker, body, delivery

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class Paced:
    """A paced log with a clock that the test sets, and the lines that it wrote."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.log = PacedLog(lambda: self.now)
        self.lines: list[Any] = []

    def flood(self, number: int, kind: str = "invalid_json", user: str | None = "greedy") -> None:
        with capture_logs() as lines:
            for _ in range(number):
                self.log.write(logging.WARNING, "lane.quarantined", kind, user, detail="d")
        self.lines += lines

    def beat(self) -> None:
        with capture_logs() as lines:
            self.log.beat()
        self.lines += lines

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


@pytest.fixture
def paced() -> Paced:
    return Paced()


def test_a_flood_is_a_few_lines_and_a_count_of_the_others(paced: Paced) -> None:
    paced.flood(1000)
    assert paced.events() == ["lane.quarantined"] * LINES
    paced.beat()
    assert len(paced.lines) == LINES
    paced.now += PERIOD_SECONDS
    paced.beat()
    assert paced.lines[-1] == {
        "event": "lane.lines_left_out",
        "log_level": "warning",
        "of": "lane.quarantined",
        "kind": "invalid_json",
        "user": "greedy",
        "lines": 1000 - LINES,
    }
    paced.beat()
    assert len(paced.lines) == LINES + 1


def test_another_user_and_another_kind_have_their_own_lines(paced: Paced) -> None:
    paced.flood(100)
    paced.flood(1, user="honest")
    paced.flood(1, user=None)
    paced.flood(1, kind="version")
    assert [line["user"] for line in paced.lines[LINES:]] == ["honest", None, "greedy"]


def test_a_new_period_begins_with_what_the_last_one_left_out(paced: Paced) -> None:
    paced.flood(LINES + 2)
    paced.now += PERIOD_SECONDS
    paced.flood(1)
    assert paced.events()[LINES:] == ["lane.lines_left_out", "lane.quarantined"]
    assert paced.lines[LINES]["lines"] == 2


def test_a_quiet_period_says_nothing(paced: Paced) -> None:
    paced.flood(LINES)
    paced.now += PERIOD_SECONDS
    paced.beat()
    assert len(paced.lines) == LINES


def test_the_end_of_the_worker_counts_what_was_left_out(paced: Paced) -> None:
    paced.flood(LINES + 3)
    with capture_logs() as lines:
        paced.log.close()
    assert [line["lines"] for line in lines] == [3]


def test_kinds_without_end_share_one(paced: Paced) -> None:
    for number in range(3 * MAX_KINDS):
        paced.flood(1, user=f"user-{number}")
    assert len(paced.log._periods) <= MAX_KINDS + 1
    assert len(paced.lines) == MAX_KINDS + LINES
    paced.now += PERIOD_SECONDS
    paced.beat()
    assert paced.lines[-1]["lines"] == 2 * MAX_KINDS - LINES


@pytest.mark.parametrize("error", [TypeError("of one body"), ValueError("of one body")])
def test_a_lane_writes_few_lines_of_any_kind_about_bodies(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise error

    with Worker(tmp_path) as worker, capture_logs() as lines:
        worker.lane.deliver([delivery(tag, b"{", message_id=f"bad:{tag}") for tag in range(1, 101)])
        worker.lane.close(Trigger.INTERVAL)
        with monkeypatch.context() as faulty:
            faulty.setattr("busmon.registry.fold.fold.Fold.envelope", fail)
            worker.lane.deliver([delivery(tag, body(VOTE)) for tag in range(101, 131)])
            worker.lane.close(Trigger.INTERVAL)
        events = [line["event"] for line in lines]
        assert {event: events.count(event) for event in events} == {
            "lane.quarantined": 2 * LINES,
            "lane.fault_met": LINES,
        }
        assert worker.shows("busmon_envelopes_rejected_total", reason="invalid_json") == 100
        assert worker.shows("busmon_envelopes_rejected_total", reason="uncountable") == 30
        worker.paced_log.close()
    assert sum(line["lines"] for line in lines if line["event"] == "lane.lines_left_out") == 95 + 25 + 25
