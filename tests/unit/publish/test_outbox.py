"""Envelopes on their way: in order, each under one id until it is confirmed, in bounded memory and disk space."""

import os
from pathlib import Path
from typing import Any

import pytest

from busmon.errors import BusError
from busmon.publish.batch import Origin, Sealed
from busmon.publish.outbox import Outbox
from busmon.publish.spool import BLOCK_BYTES, Spool

from .fake_publisher import FakePublisher

ORIGIN = Origin("analyzer-1", "analyzer")


class LatePublisher(FakePublisher):
    """A publisher whose confirms come when they are told to, in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.under_way: dict[str, Any] = {}

    def send(self, exchange: str, routing_key: str, body: bytes, properties: Any, stored: Any) -> None:
        super().send(exchange, routing_key, body, properties, lambda: None)
        self.under_way[properties.message_id] = stored

    def settle(self) -> None:
        if self.under_way:
            self.under_way.clear()
            raise BusError("gone")

    def confirm(self, *sequences: int) -> None:
        for sequence in sequences:
            self.under_way.pop(f"analyzer-1:{sequence}")()


def an_outbox(publisher: FakePublisher, max_bytes: int = 1 << 20, **options: Any) -> Outbox:
    return Outbox(ORIGIN, "telemetry", publisher, max_bytes, **options)


def a_sealed(number: int, samples: int = 1) -> Sealed:
    return Sealed("task", b"%10d" % number, samples)


def bodies(publisher: FakePublisher) -> list[Any]:
    return [stored.body for stored in publisher.stored]


def fail(outbox: Outbox, publisher: FakePublisher) -> None:
    publisher.failure = BusError("gone")
    with pytest.raises(BusError):
        outbox.send()
    publisher.failure = None


def test_properties_say_whose_and_which_envelope_it_is() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher)
    outbox.put(a_sealed(1))
    outbox.send()
    (stored,) = publisher.stored
    properties = stored.properties
    assert (stored.exchange, stored.routing_key) == ("telemetry", "analyzer.task")
    assert (properties.message_id, properties.app_id, properties.delivery_mode) == ("analyzer-1:1", "analyzer", 2)
    assert properties.content_type == "application/json"
    assert properties.headers["source"] == "analyzer-1"
    assert properties.headers["published_at_ns"] / 1e9 == pytest.approx(properties.timestamp, abs=2)


def test_what_is_not_confirmed_is_repeated_under_its_id_before_what_follows() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher)
    for number in (1, 2):
        outbox.put(a_sealed(number))
    for _ in range(2):
        fail(outbox, publisher)
    outbox.send()
    assert publisher.attempts == ["analyzer-1:1"] * 3 + ["analyzer-1:2"]
    assert bodies(publisher) == [1, 2]


def test_of_several_under_way_those_that_were_not_confirmed_are_repeated_in_order() -> None:
    publisher, confirmed = LatePublisher(), []
    outbox = an_outbox(publisher, confirmed=lambda sealed: confirmed.append(int(sealed.body)))
    for number in range(1, 7):
        outbox.put(a_sealed(number))
    outbox.send()
    publisher.confirm(2, 4, 1)
    with pytest.raises(BusError):
        outbox.settle()
    assert (confirmed, len(outbox)) == ([2, 4, 1], 3)
    publisher.attempts.clear()
    with pytest.raises(BusError):
        outbox.send()
    assert publisher.attempts == ["analyzer-1:3"], "one alone is tried after a failure"


def test_the_time_of_publishing_is_that_of_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher)
    outbox.put(a_sealed(1))
    fail(outbox, publisher)
    monkeypatch.setattr("busmon.publish.outbox.time_ns", lambda: 42)
    outbox.send()
    assert publisher.stored[0].properties.headers["published_at_ns"] == 42


def test_without_a_spool_the_oldest_envelopes_are_given_up_for_new_ones() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher, max_bytes=35)
    for number, dropped in ((1, 0), (2, 0), (3, 0), (4, 1), (5, 3)):
        outbox.put(a_sealed(number, samples=number))
        assert outbox.dropped == dropped
    assert outbox.samples == 3 + 4 + 5
    outbox.send()
    assert bodies(publisher) == [3, 4, 5]
    assert publisher.attempts == ["analyzer-1:1", "analyzer-1:2", "analyzer-1:3"]


def test_an_envelope_larger_than_the_bound_still_goes_out_alone() -> None:
    publisher = FakePublisher()
    outbox = an_outbox(publisher, max_bytes=5)
    outbox.put(a_sealed(1))
    outbox.send()
    assert len(publisher.stored) == 1


class TestASpool:
    def outbox(self, publisher: FakePublisher, directory: Path, blocks: int = 1000) -> Outbox:
        spool = Spool(directory, ORIGIN.source)
        return an_outbox(publisher, max_bytes=15, spool=spool, max_spool_bytes=blocks * BLOCK_BYTES)

    def heir(self, publisher: FakePublisher, directory: Path) -> Outbox:
        (spool,) = Spool.take_over_abandoned(directory)
        return Outbox.of_spool(spool, ORIGIN.agent, "telemetry", publisher, lambda _: None)

    def test_what_memory_has_no_room_for_is_published_from_disk_in_order(self, tmp_path: Path) -> None:
        publisher = FakePublisher()
        outbox = self.outbox(publisher, tmp_path)
        for number in range(1, 6):
            outbox.put(a_sealed(number))
        assert (outbox.samples, outbox.spooled_samples) == (1, 4)
        fail(outbox, publisher)
        outbox.send()
        assert bodies(publisher) == [1, 2, 3, 4, 5]
        outbox.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_process_that_is_gone_is_inherited_under_its_own_ids(self, tmp_path: Path) -> None:
        publisher = FakePublisher()
        outbox = self.outbox(publisher, tmp_path)
        for number in range(1, 6):
            outbox.put(a_sealed(number))
        fail(outbox, publisher)
        assert list(Spool.take_over_abandoned(tmp_path)) == [], "its process lives"
        assert outbox.spill() is None
        outbox.close()
        heir = self.heir(publisher, tmp_path)
        heir.send()
        assert bodies(publisher) == [1, 2, 3, 4, 5]
        assert publisher.attempts[1:] == [f"analyzer-1:{number}" for number in range(1, 6)]
        heir.put(a_sealed(6))
        heir.send()
        assert publisher.attempts[-1] == "analyzer-1:6"
        heir.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_full_spool_gives_up_its_oldest(self, tmp_path: Path) -> None:
        publisher = FakePublisher()
        outbox = self.outbox(publisher, tmp_path, blocks=3)
        for number in range(1, 8):
            outbox.put(a_sealed(number, samples=number))
        assert outbox.dropped == 1 + 2 + 3
        outbox.send()
        assert bodies(publisher) == [4, 5, 6, 7]

    def test_torn_and_foreign_files_cost_only_themselves(self, tmp_path: Path) -> None:
        publisher = FakePublisher()
        outbox = self.outbox(publisher, tmp_path)
        for number in range(1, 6):
            outbox.put(a_sealed(number, samples=number))
        outbox.spill()
        outbox.close()
        first, second, third, *_ = sorted((tmp_path / ORIGIN.source).glob("*.task"))
        first.write_bytes(b"")
        second.write_bytes(second.read_bytes()[:-1])
        third.rename(f"{third}.unfinished")
        (tmp_path / ORIGIN.source / "notes").write_text("mine")
        heir = self.heir(publisher, tmp_path)
        heir.send()
        assert bodies(publisher) == [4, 5]
        assert heir.dropped == 1 + 2
        heir.close()
        assert [path.name for path in (tmp_path / ORIGIN.source).iterdir()] == ["notes"]

    def test_a_directory_that_is_no_spool_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "1.2.jpeg").write_text("mine")
        assert list(Spool.take_over_abandoned(tmp_path)) == []
        assert (tmp_path / "photos" / "1.2.jpeg").exists()

    def test_what_others_plant_is_not_published_and_keeps_nothing_from_being(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publisher, ours, theirs = FakePublisher(), tmp_path / "ours", tmp_path / "theirs"
        for directory in (ours, theirs):
            outbox = self.outbox(publisher, directory)
            outbox.put(a_sealed(1))
            outbox.spill()
            outbox.close()
        (ours / "0-planted").symlink_to(theirs / ORIGIN.source)
        (ours / "0-dangling").symlink_to(tmp_path / "nowhere")
        with monkeypatch.context() as as_another:
            as_another.setattr(os, "geteuid", lambda: ours.stat().st_uid + 1)
            assert list(Spool.take_over_abandoned(ours)) == []
        assert [spool.source for spool in Spool.take_over_abandoned(ours)] == [ORIGIN.source]

    def test_a_directory_that_cant_be_written_to_is_as_none(self, tmp_path: Path) -> None:
        publisher = FakePublisher()
        (tmp_path / "agent").write_text("a file")
        outbox = self.outbox(publisher, tmp_path / "agent")
        for number in range(1, 4):
            outbox.put(a_sealed(number))
        assert outbox.dropped == 2
        assert "Not a directory" in str(outbox.spill())
        outbox.send()
        assert bodies(publisher) == [3]

    def test_a_disk_that_is_full_for_a_while_costs_what_it_would_have_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publisher = FakePublisher()
        outbox = self.outbox(publisher, tmp_path)
        for number in range(1, 4):
            outbox.put(a_sealed(number))
        with monkeypatch.context() as full:
            full.setattr("busmon.publish.spool.files.replace", refuse)
            outbox.put(a_sealed(4))
        outbox.put(a_sealed(5))
        assert outbox.dropped == 1
        outbox.send()
        assert bodies(publisher) == [1, 2, 4, 5]


def refuse(*_: object) -> int:
    raise OSError(28, "No space left on device")
