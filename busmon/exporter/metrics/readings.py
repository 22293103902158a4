"""The readings of the registry directory: one at a time, in a thread, shared by all who ask for the same.

A request that comes while a reading runs shares the next of its kind, so it sees everything committed before it asked.
The next reading is for the address whose readings took least time. One that nobody waits for any more isn't made.
Lives on the event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from busmon.exporter.turn_order import TurnOrder

Result = TypeVar("Result")

_FULL_SECONDS = 0.02
"""How long it waits for room."""


@dataclass(slots=True)
class _Reading(Generic[Result]):
    """One that waits.

    Attributes:
        read: makes it, in a thread.
        is_large: whether its result needs room.
        result: shared.
        asking: how many wait for it, by address.
        is_taken: set when nobody waits for it any more.
    """

    read: Callable[[], Result]
    is_large: bool
    result: asyncio.Future[Result]
    asking: Counter[str] = field(default_factory=Counter)
    is_taken: asyncio.Event = field(default_factory=asyncio.Event)


class Readings:
    """The readings.

    Args:
        make_room: returns whether there is room for a large result that one of these addresses waits for.
    """

    def __init__(self, make_room: Callable[[Collection[str]], bool]) -> None:
        self._make_room = make_room
        self._order = TurnOrder()
        self._next: dict[Hashable, _Reading[Any]] = {}
        self._running: asyncio.Task[None] | None = None

    def count(self, address: str) -> int:
        """Count the readings that wait and that this address asked for."""
        return sum(reading.asking[address] > 0 for reading in self._next.values())

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a reading of this kind waits."""
        return key in self._next

    async def share(self, key: Hashable, address: str, read: Callable[[], Result], *, is_large: bool = False) -> Result:
        """Return the result of the next reading of a kind.

        Args:
            key: the kind.
            address: of the client.
            read: makes one.
            is_large: whether its result needs room.

        Raises:
            Exception: the reading's own.
        """
        reading = self._next.get(key)
        if reading is None:
            result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            reading = self._next[key] = _Reading(read, is_large, result)
        reading.asking[address] += 1
        self._order.enter(address)
        self._running = self._running or asyncio.create_task(self._run())
        try:
            # A client that goes away cancels its own wait, not the reading that others share.
            return await asyncio.shield(reading.result)
        finally:
            self._order.leave(address)
            reading.asking[address] -= 1
            if not +reading.asking:
                reading.is_taken.set()
                if self._next.get(key) is reading:
                    del self._next[key]

    async def _run(self) -> None:
        try:
            while self._next:
                if (key := self._choose()) is None:
                    await asyncio.sleep(_FULL_SECONDS)
                else:
                    # From here on a newcomer needs a newer reading.
                    await self._make(self._next.pop(key))
        finally:
            self._running = None

    def _choose(self) -> Hashable | None:
        """Return the kind of the next reading for which there is room."""
        for address in self._order.sort({each for reading in self._next.values() for each in +reading.asking}):
            for key, reading in self._next.items():
                if reading.asking[address] and (not reading.is_large or self._make_room(+reading.asking)):
                    self._order.give(address)
                    return key
        return None

    async def _make(self, reading: _Reading[Any]) -> None:
        began, addresses = time.monotonic(), [*+reading.asking]
        try:
            reading.result.set_result(await asyncio.to_thread(reading.read))
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            reading.result.set_exception(error)
            reading.result.exception()  # asyncio would log it if nobody waits any more
        for address in addresses:
            self._order.charge(address, time.monotonic() - began)
        if reading.is_large:
            # Those that wait for their turns hold it, and it counts when they begin to send it.
            await reading.is_taken.wait()
