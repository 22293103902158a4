"""The turns of requests: each step of an answer waits for a turn of its address.

A step is the work of a task between two waits. Without turns, the loop runs the steps of all requests one after the
other, so a crowd of one address delays each step of another's scrape. With turns it runs one step, then meets what came
in meanwhile; the next turn is the address's that took least CPU time. Within an address, steps keep their order. Lives
on the event loop.
"""

import asyncio
import time
import types
from collections import deque
from collections.abc import Coroutine, Generator
from typing import Any

from busmon.exporter.turn_order import TurnOrder


class Turns:
    """The turns on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._order = TurnOrder()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._is_given = False

    async def run(self, address: str, work: Coroutine[Any, Any, None]) -> None:
        """Run the work of a request, each step in a turn of its address.

        Raises:
            Exception: the work's own.
        """
        self._order.enter(address)
        try:
            await self._run(address, work)
        finally:
            self._order.leave(address)

    @types.coroutine
    def _run(self, address: str, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Run the work step by step, and wait for what it waits for."""
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    yield from self._wait(address)
            except asyncio.CancelledError as cancelled:
                error = cancelled
            try:
                awaited = self._step(address, work, error)
            except StopIteration:
                return
            finally:
                error = None  # its traceback holds this frame, which only the garbage collector would free
            try:
                yield awaited
            except BaseException as raised:  # noqa: BLE001 - the work is told of whatever ends its wait
                error = raised

    def _step(self, address: str, work: Coroutine[Any, Any, None], error: BaseException | None) -> Any:
        # CPU time: an address isn't charged for what else the machine runs meanwhile.
        began = time.thread_time()
        try:
            return work.send(None) if error is None else work.throw(error)
        finally:
            error = None  # as above
            self._order.charge(address, time.thread_time() - began)

    def _wait(self, address: str) -> Generator[Any, None, None]:
        """Wait for a turn; there is none to wait for if nobody has had one in this pass of the loop."""
        self._order.wait(address)
        if self._is_given:
            turn = self._loop.create_future()
            self._waiting.setdefault(address, deque()).append(turn)
            yield from turn
        else:
            self._is_given = True
            self._order.give(address)
            self._loop.call_soon(self._give)

    def _give(self) -> None:
        """Give the next turn; the task that waits for it has it in the next pass of the loop."""
        while self._waiting:
            address = self._order.choose(self._waiting)
            turns = self._waiting[address]
            turn = turns.popleft()
            if not turns:
                del self._waiting[address]
            if not turn.done():  # nobody waits for a cancelled one, whose address may have left
                self._order.give(address)
                turn.set_result(None)
                self._loop.call_soon(self._give)
                return
        self._is_given = False
