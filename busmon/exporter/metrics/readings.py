"""The readings of the registry directory: one at a time, in a thread, shared by all who ask for the same.

A request that comes while a reading runs shares the next of its kind, so it sees everything committed before it asked.
The next reading is for the address whose readings took least time. One that nobody waits for any more isn't made.
Lives on the event loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from busmon.exporter.turn_order import TurnOrder

Result = TypeVar("Result")

_FULL_SECONDS = 0.02
"""How long it waits for room, at most."""

_MOST_UNTAKEN = 4
"""Large results that somebody has yet to take; beyond that the next large reading waits."""


@dataclass(slots=True, eq=False)
class _Reading(Generic[Result]):
    """One that waits.

    Attributes:
        read: makes it, in a thread.
        is_large: whether its result needs room.
        result: shared.
        asking: how many wait for it, by address.
    """

    read: Callable[[], Result]
    is_large: bool
    result: asyncio.Future[Result]
    asking: Counter[str] = field(default_factory=Counter)


class Readings:
    """The readings.

    Args:
        make_room: returns whether there is room for a large result that one of these addresses waits for.
    """

    def __init__(self, make_room: Callable[[Collection[str]], bool]) -> None:
        self._make_room = make_room
        self._order = TurnOrder()
        self._next: dict[Hashable, _Reading[Any]] = {}
        self._untaken: set[_Reading[Any]] = set()
        self._has_changed = asyncio.Event()
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
                self._untaken.discard(reading)
                if self._next.get(key) is reading:
                    del self._next[key]
            self._has_changed.set()

    async def _run(self) -> None:
        try:
            while self._next:
                self._has_changed.clear()
                if (key := self._choose()) is None:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._has_changed.wait(), _FULL_SECONDS)
                else:
                    # From here on a newcomer needs a newer reading.
                    await self._make(self._next.pop(key))
        finally:
            self._running = None

    def _choose(self) -> Hashable | None:
        """Return the kind of the next reading for which there is room."""
        # In the order of their requests, which decides between addresses that took equally long.
        asking = dict.fromkeys(address for reading in self._next.values() for address in +reading.asking)
        for address in self._order.sort(asking):
            for key, reading in self._next.items():
                if reading.asking[address] and (not reading.is_large or self._has_room(reading, address)):
                    self._order.give(address)
                    return key
        return None

    def _has_room(self, reading: _Reading[Any], address: str) -> bool:
        """Return whether there is room for a large reading.

        Results that wait to be taken are in memory, and count with the pages only when they begin to be sent. A crowd's
        are taken late, so its address waits for them, and the others go on.
        """
        if len(self._untaken) >= _MOST_UNTAKEN or any(untaken.asking[address] for untaken in self._untaken):
            return False
        return self._make_room(+reading.asking)

    async def _make(self, reading: _Reading[Any]) -> None:
        began, addresses = time.monotonic(), [*+reading.asking]
        try:
            result = await asyncio.to_thread(reading.read)
            if reading.is_large and +reading.asking:
                self._untaken.add(reading)
            reading.result.set_result(result)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            reading.result.set_exception(error)
            reading.result.exception()  # asyncio would log it if nobody waits any more
        for address in addresses:
            self._order.charge(address, time.monotonic() - began)
