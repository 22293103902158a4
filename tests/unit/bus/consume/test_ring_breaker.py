"""The ring is broken until the last loss of a queue is answered by a deletion."""

from collections.abc import Callable
from typing import Any

from busmon.bus.consume.ringing import RingBreaker
from busmon.bus.topology.topology import load


class Broker:
    """A connection whose channels open and confirm when they are told to."""

    is_open = True

    def __init__(self) -> None:
        self.opening: list[Callable[[Any], None]] = []
        self.deleting: list[Callable[[Any], None]] = []

    def channel(self, *, on_open_callback: Callable[[Any], None]) -> None:
        self.opening.append(on_open_callback)

    def exchange_declare(self, *_: Any, **__: Any) -> None:
        pass

    def exchange_delete(self, _: str, callback: Callable[[Any], None]) -> None:
        self.deleting.append(callback)

    def close(self) -> None:
        pass


def lost(times: int) -> tuple[RingBreaker, Broker]:
    """A breaker whose queue was lost so often, with deletions on their way."""
    ring = load(None, "telemetry").ring
    assert ring is not None
    breaker, broker = RingBreaker(ring), Broker()
    breaker.on_connected(broker)  # type: ignore[arg-type]
    for _ in range(times):
        breaker.lose(ring.deals[0].destination)
    for opened in broker.opening:
        opened(broker)
    return breaker, broker


def test_the_ring_is_broken_until_the_last_of_two_deletions_is_confirmed() -> None:
    breaker, broker = lost(2)
    broker.deleting[0](None)
    assert breaker.is_broken
    broker.deleting[1](None)
    assert not breaker.is_broken


def test_a_deletion_that_was_on_its_way_is_repeated_on_the_next_connection() -> None:
    breaker, broker = lost(2)
    broker.deleting[0](None)
    following = Broker()
    breaker.on_connected(following)  # type: ignore[arg-type]
    assert len(following.opening) == 1
    following.opening[0](following)
    following.deleting[0](None)
    assert not breaker.is_broken
    breaker.on_connected(Broker())  # type: ignore[arg-type]
    assert len(following.opening) == 1
