from time import monotonic

import pytest
from pika.adapters.select_connection import IOLoop

from busmon.bus.consume import settling
from busmon.bus.consume.settling import PARK_SECONDS, Settler

BASE = 1000
PREFETCH = 10


class FakeChannel:
    """Keeps the acks that would have been sent."""

    def __init__(self) -> None:
        self.acks: list[tuple[int, bool]] = []
        self.is_open = True

    def basic_ack(self, delivery_tag: int, multiple: bool) -> None:  # noqa: FBT001 - as pika's
        self.acks.append((delivery_tag, multiple))


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
def settler(channel: FakeChannel, ioloop: IOLoop) -> Settler:
    return Settler(channel, BASE, PREFETCH, ioloop)  # type: ignore[arg-type]  # all of a channel that it uses


def tags(*numbers: int) -> list[int]:
    return [BASE + number for number in numbers]


def turn(ioloop: IOLoop, seconds: float = 0) -> None:
    ioloop.call_later(seconds, ioloop.stop)
    ioloop.start()


def test_a_batch_is_acknowledged_at_once_under_the_channels_own_tags(settler: Settler, channel: FakeChannel) -> None:
    settler.settle(tags(1, 2, 3))
    assert channel.acks == [(3, True)]


def test_tags_of_an_earlier_channel_are_passed_over(settler: Settler, channel: FakeChannel) -> None:
    settler.settle([1, 2, 3])
    assert not settler.hold(1)
    settler.release(1)
    settler.flush()
    assert not channel.acks


def test_deliveries_released_in_one_turn_of_the_loop_share_an_ack(
    settler: Settler, channel: FakeChannel, ioloop: IOLoop
) -> None:
    for tag in tags(1, 2, 3):
        assert settler.hold(tag)
    for tag in tags(1, 2, 3):
        settler.release(tag)
    turn(ioloop)
    assert channel.acks == [(3, True)]
    assert settler.held == 0


def test_what_lies_above_a_held_delivery_waits_for_it(settler: Settler, channel: FakeChannel, ioloop: IOLoop) -> None:
    settler.hold(BASE + 1)
    settler.settle(tags(1, 2, 3))
    assert not channel.acks
    settler.release(BASE + 1)
    turn(ioloop)
    assert channel.acks == [(3, True)]


def test_it_waits_no_longer_than_it_may(
    settler: Settler, channel: FakeChannel, ioloop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "PARK_SECONDS", 0.001)
    settler.hold(BASE + 1)
    settler.settle(tags(1, 2, 3))
    turn(ioloop, 0.01)
    assert channel.acks == [(2, False), (3, False)]
    assert monotonic() - settler.last_single < PARK_SECONDS


def test_it_does_not_wait_while_half_the_prefetch_is_taken(settler: Settler, channel: FakeChannel) -> None:
    settler.hold(BASE + 1)
    settler.settle(tags(2, 3, 4, 5, 6))
    assert not channel.acks
    settler.settle(tags(7))
    assert channel.acks == [(tag, False) for tag in range(2, 8)]


def test_a_flush_that_one_ack_can_do_is_no_single_one(settler: Settler, channel: FakeChannel) -> None:
    settler.hold(BASE + 1)
    settler.settle(tags(1, 2))
    settler.release(BASE + 1)
    before = settler.last_single
    settler.flush()
    assert channel.acks == [(2, True)]
    assert settler.last_single == before


def test_nothing_is_sent_on_a_channel_that_is_closing(settler: Settler, channel: FakeChannel) -> None:
    channel.is_open = False
    settler.settle(tags(1, 2))
    assert not channel.acks


def test_nothing_is_sent_once_it_is_stopped(
    settler: Settler, channel: FakeChannel, ioloop: IOLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "PARK_SECONDS", 0.001)
    settler.hold(BASE + 1)
    settler.settle(tags(2, 3))
    settler.stop()
    turn(ioloop, 0.01)
    assert not channel.acks
