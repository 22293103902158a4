"""Viewers: the overview as server-sent events, computed once for all who watch, and not at all while nobody does.

Bounded on both sides: so many viewers at most, shared among the addresses that they come from, and one that doesn't
take what it is sent is dropped. A slow viewer skips updates; none are queued for it. Lives on the event loop.

The format is the HTML standard's (https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

log = structlog.get_logger(__name__)

MAX_VIEWERS = 64
"""Beyond that, a viewer takes a place of the address that has most, or is told to try again if that is its own."""

UPDATE_SECONDS = 1.0

TAKE_SECONDS = 10.0
"""How long a viewer may leave an update in the way before it is dropped."""

ENDLESS = "endless"
"""The key in a scope's `state` by which an answer tells the server that it has no end."""

HALF_CLOSED = "half_closed"
"""The key in a scope's `state` by which the server tells an answer that the client has closed its sending side."""

_RETRY_MILLISECONDS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Seat:
    """One viewer's.

    Attributes:
        address: where it watches from.
        wanted: set once it has to make room.
    """

    address: str
    wanted: asyncio.Event = field(default_factory=asyncio.Event)


class Viewers:
    """Everybody who watches.

    Args:
        read: makes one update, on one line.
    """

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._places: list[Seat] = []
        self._line = b""
        self._number = 0
        self._renewed = asyncio.Condition()
        self._reading: asyncio.Task[None] | None = None

    def stream(self, address: str) -> Response:
        """Answer a new viewer."""
        if len(self._places) >= MAX_VIEWERS and self._spare(address) is None:
            line = f"{MAX_VIEWERS} viewers watch already\n"
            return PlainTextResponse(line, 503, headers={"Retry-After": "10", "Cache-Control": "no-store"})
        return _Stream(self, address)

    @contextmanager
    def take_seat(self, address: str) -> Iterator[Seat]:
        """Give a viewer a place, another's if need be; updates are read while anybody has one."""
        if len(self._places) >= MAX_VIEWERS and (spare := self._spare(address)):
            self._places.remove(spare)
            spare.wanted.set()
        place = Seat(address)
        self._places.append(place)
        if self._reading is None:
            self._reading = asyncio.create_task(self._go_on())
        try:
            yield place
        finally:
            if not place.wanted.is_set():
                self._places.remove(place)

    def _spare(self, address: str) -> Seat | None:
        """Find the oldest place of the address with most places, if `address` would still have fewer with one more."""
        taken = Counter(place.address for place in self._places)
        greediest, most = taken.most_common(1)[0]
        if most <= taken[address] + 1:
            return None
        return next(place for place in self._places if place.address == greediest)

    async def updates(self) -> AsyncIterator[bytes]:
        """Yield the newest update and each that follows, while the viewer is counted. All viewers get the same."""
        seen = 0
        while True:
            async with self._renewed:
                while not self._line or self._number == seen:
                    await self._renewed.wait()
                seen, line = self._number, self._line
            yield line

    async def _go_on(self) -> None:
        while self._places:
            try:
                line = await self._read()
            except Exception:
                # The viewers see that nothing comes, and say so.
                log.exception("viewers.update_failed")
            else:
                async with self._renewed:
                    self._line, self._number = line, self._number + 1
                    self._renewed.notify_all()
            await asyncio.sleep(UPDATE_SECONDS)
        self._reading, self._line = None, b""


class _Stream(Response):
    """One viewer's endless answer."""

    media_type = "text/event-stream"

    def __init__(self, viewers: Viewers, address: str) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._viewers = viewers
        self._address = address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = scope.setdefault("state", {})
        if scope["method"] == "HEAD" or state.get(HALF_CLOSED):
            await self._begin(send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        state[ENDLESS] = True
        with self._viewers.take_seat(self._address) as place:
            endings = (self._watch(send), _wait_until_gone(receive), place.wanted.wait())
            tasks = [asyncio.create_task(ending) for ending in endings]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                    with suppress(asyncio.CancelledError, TimeoutError, OSError):
                        await task

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})

    async def _watch(self, send: Send) -> None:
        """Send each update until the viewer leaves one in the way for too long."""
        await self._begin(send)
        await _put(send, f"retry: {_RETRY_MILLISECONDS}\n\n".encode())
        async for line in self._viewers.updates():
            await _put(send, b"data: " + line + b"\n\n")


async def _put(send: Send, body: bytes) -> None:
    async with asyncio.timeout(TAKE_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
