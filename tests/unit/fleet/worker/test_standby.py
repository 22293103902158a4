"""A standby host takes a shard once nothing has consumed from its queue for so long, without a break."""

import os
from pathlib import Path

from busmon.fleet.worker.standby import Standby
from busmon.fleet.worker.taken import TakenMark


def test_a_host_that_is_no_standby_waits_for_nothing() -> None:
    standby = Standby(0.0)
    assert not standby.is_waiting
    assert not standby.note(0, 100.0)


def test_a_queue_without_a_consumer_for_long_enough_is_taken_once() -> None:
    standby = Standby(30.0)
    found = []
    for consumers, now in ((1, 0.0), (0, 10.0), (0, 39.9), (0, 40.0), (0, 41.0)):
        found.append((standby.note(consumers, now), standby.is_waiting))
    assert found == [(False, True), (False, True), (False, True), (True, False), (False, False)]


def test_a_worker_that_is_replaced_in_time_keeps_the_shard() -> None:
    standby = Standby(30.0)
    seen = ((0, 0.0), (0, 29.0), (1, 29.5), (0, 30.0), (0, 59.0))
    assert not any(standby.note(consumers, now) for consumers, now in seen)
    assert standby.note(0, 60.0)


def test_what_is_not_known_is_no_absence() -> None:
    standby = Standby(30.0)
    assert not any(standby.note(consumers, now) for consumers, now in ((0, 0.0), (None, 20.0), (0, 31.0), (0, 60.9)))
    assert standby.note(0, 61.0)


def test_it_says_what_it_waits_for() -> None:
    assert Standby(30.0).reason == "another host consumes, or did within the last 30 s"


def test_a_shard_that_was_taken_is_not_waited_for_again() -> None:
    standby = Standby(30.0, is_taken=True)
    assert not standby.is_waiting
    assert not standby.note(0, 100.0)


def test_a_mark_is_valid_for_the_wait_of_a_standby_and_until_it_is_removed(tmp_path: Path) -> None:
    mark = TakenMark(tmp_path, 2, 30.0)
    assert not mark.is_valid()
    mark.beat()
    path = tmp_path / "shard2.taken"
    assert (TakenMark(tmp_path, 2, 30.0).is_valid(), path.stat().st_mode & 0o777) == (True, 0o600)
    assert not TakenMark(tmp_path, 3, 30.0).is_valid()
    assert not TakenMark(tmp_path, 2, 0.0).is_valid()
    beaten_at = path.stat().st_mtime
    for age, is_valid in ((29, True), (31, False), (-29, True), (-3600, False)):
        os.utime(path, (beaten_at - age, beaten_at - age))
        assert mark.is_valid() == is_valid
    mark.beat()
    assert mark.is_valid()
    mark.remove()
    mark.remove()
    mark.beat()
    assert (mark.is_valid(), path.exists()) == (False, False)


def test_what_stands_in_a_marks_place_is_not_written_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "shard0.taken").symlink_to(elsewhere)
    TakenMark(tmp_path, 0, 30.0).beat()
    assert not elsewhere.exists()
