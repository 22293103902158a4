"""The pages that answers hold in memory: their size, and the answers that give way to a newer page.

Each reading makes a page of its own, and a client that reads slowly holds its page. Beyond the bound the oldest page
goes, if each of its answers may be ended. Those of an address with several pages and an equal share or more may, if one
with less waits. Those whose client took nothing for a second, or that took ten seconds, may for any. Lives on the event
loop.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MAX_BYTES = 64 * 1024 * 1024
"""The size of all pages that answers hold, at which the next has to wait: four of 16 MB, and two of any size."""

STALLED_SECONDS = 1.0
"""How long a client may leave a piece in the way."""

SLOW_SECONDS = 10.0
"""How long an answer may take; Prometheus waits so long unless told otherwise."""

_FEWEST = 2


@dataclass(slots=True, eq=False)
class Answer:
    """One answer.

    Attributes:
        address: the client's.
        task: which sends the answer.
        began_at: the monotonic clock's time.
        took_at: when the client took the last piece.
    """

    address: str
    task: "asyncio.Task[None] | None"
    began_at: float
    took_at: float


@dataclass(slots=True, eq=False)
class _Held:
    page: bytes
    answers: set[Answer] = field(default_factory=set)


class HeldPages:
    """The pages.

    Args:
        note_end: is called for each answer that is ended.
        most_bytes: their size, together.
        now: gives the monotonic clock's time.
    """

    def __init__(
        self,
        note_end: Callable[[], None] = lambda: None,
        most_bytes: int = MAX_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note_end = note_end
        self._most_bytes = most_bytes
        self._now = now
        self._held: dict[int, _Held] = {}  # by identity; the first is the oldest

    @contextmanager
    def hold(self, page: bytes, address: str) -> Iterator[Answer]:
        """Count a page as held by an answer of the current task."""
        held = self._held.setdefault(id(page), _Held(page))
        answer = Answer(address, asyncio.current_task(), self._now(), self._now())
        held.answers.add(answer)
        try:
            yield answer
        finally:
            held.answers.discard(answer)
            if not held.answers and self._held.get(id(page)) is held:
                del self._held[id(page)]

    def note(self, answer: Answer) -> None:
        """Note that the client took a piece."""
        answer.took_at = self._now()

    def make_room(self, addresses: Collection[str]) -> bool:
        """Return whether there is room for a page for these addresses; if need be, end the answers of another."""
        while len(self._held) >= _FEWEST and sum(len(held.page) for held in self._held.values()) >= self._most_bytes:
            expendable = self._find_expendable(addresses)
            if expendable is None:
                return False
            for answer in expendable.answers:
                if answer.task:
                    answer.task.cancel()
                self._note_end()
            del self._held[id(expendable.page)]
        return True

    def _find_expendable(self, addresses: Collection[str]) -> _Held | None:
        sizes: Counter[str] = Counter()
        pages: Counter[str] = Counter()
        for held in self._held.values():
            for address in {answer.address for answer in held.answers}:
                sizes[address] += len(held.page)
                pages[address] += 1
        share = self._most_bytes / len(sizes.keys() | addresses)
        is_due = any(sizes[address] < share for address in addresses)
        greedy = {address for address, size in sizes.items() if size >= share and pages[address] > 1}
        return next((held for held in self._held.values() if self._may_go(held, greedy if is_due else ())), None)

    def _may_go(self, held: _Held, greedy: Collection[str]) -> bool:
        now = self._now()
        return all(
            answer.address in greedy or now - answer.took_at >= STALLED_SECONDS or now - answer.began_at >= SLOW_SECONDS
            for answer in held.answers
        )
