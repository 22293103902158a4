"""Sealed envelopes on their way: in order, several at once, each kept until the broker has confirmed it.

An envelope gets its `message_id` at its first attempt, or when it goes to disk, and keeps it, so that the fleet knows
a repetition. The oldest go from memory to the spool when memory is full, and are given up when the spool is; so what
is on disk is older than what is in memory. Belongs to the thread that publishes.
"""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from time import time, time_ns
from typing import Protocol, Self

import pika

from busmon.errors import SpoolError
from busmon.publish.batch import Origin, Sealed
from busmon.publish.spool import Entry, Spool, bytes_on_disk
from busmon.wire.json_v1 import CONTENT_TYPE

PERSISTENT = 2

_logger = logging.getLogger("busmon")


class Publisher(Protocol):
    """The part of a `ConfirmedPublisher` that an outbox needs; the tests have another."""

    def send(
        self, exchange: str, routing_key: str, body: bytes, properties: pika.BasicProperties, stored: Callable[[], None]
    ) -> None:
        """Publish a body; `stored` is called once a queue has it."""

    def settle(self) -> None:
        """Wait for the confirms of all that was sent."""


@dataclass(slots=True)
class _Outgoing:
    """An envelope that isn't confirmed yet, or is `done`; on disk where it has no body."""

    domain: str
    samples: int
    body: bytes | None
    sequence: int | None = None
    disk_bytes: int = 0
    done: bool = False

    @property
    def entry(self) -> Entry:
        """Its file; for one that has a sequence."""
        assert self.sequence is not None  # noqa: S101 - given before it goes to disk
        return Entry(self.sequence, self.samples, self.domain)


class Outbox:
    """Envelopes of one source.

    Args:
        origin: whose they are.
        exchange: where they go.
        publisher: how they get there.
        max_bytes: what their bodies may take together in memory.
        spool: where those go that memory has no room for; None gives them up.
        max_spool_bytes: what the spool may take.
        confirmed: called with each envelope once a queue has it.

    Attributes:
        dropped: samples that were given up, until somebody takes note of them.
        disk_bytes: what the spool takes.
    """

    def __init__(  # noqa: PLR0913 - two bounds, two ways out
        self,
        origin: Origin,
        exchange: str,
        publisher: Publisher,
        max_bytes: int,
        *,
        spool: Spool | None = None,
        max_spool_bytes: int = 0,
        confirmed: Callable[[Sealed], None] = lambda _sealed: None,
    ) -> None:
        self.origin = origin
        self.dropped = self.disk_bytes = 0
        self._exchange = exchange
        self._publisher = publisher
        self._max_bytes = max_bytes
        self._spool = spool
        self._max_spool_bytes = max_spool_bytes
        self._confirmed = confirmed
        self._on_disk: deque[_Outgoing] = deque()
        self._in_memory: deque[_Outgoing] = deque()
        self._unsent: deque[_Outgoing] = deque()
        self._memory_bytes = 0
        self._waiting = self._sequence = 0
        # After a failure one envelope goes ahead, and the others only once it is confirmed.
        self._is_trusted = True
        self._is_writable = True

    @classmethod
    def of_spool(
        cls, spool: Spool, agent: str, exchange: str, publisher: Publisher, confirmed: Callable[[Sealed], None]
    ) -> Self:
        """Make the outbox of envelopes that a dead process left on disk.

        Raises:
            SpoolError: the spool can't be read.
        """
        outbox = cls(Origin(spool.source, agent), exchange, publisher, 0, spool=spool, confirmed=confirmed)
        for entry in spool.entries():
            size = spool.size(entry)
            outbox._add(outbox._on_disk, _Outgoing(entry.domain, entry.samples, None, entry.sequence, size))
            outbox.disk_bytes += size
            outbox._sequence = entry.sequence
        return outbox

    def __len__(self) -> int:
        return self._waiting

    @property
    def samples(self) -> int:
        """How many samples wait in memory to be confirmed."""
        return sum(outgoing.samples for outgoing in self._in_memory if not outgoing.done)

    @property
    def spooled_samples(self) -> int:
        """How many samples wait on disk to be confirmed."""
        return sum(outgoing.samples for outgoing in self._on_disk if not outgoing.done)

    def put(self, sealed: Sealed) -> None:
        """Add an envelope behind the others, which may cost the oldest."""
        self._add(self._in_memory, _Outgoing(sealed.domain, sealed.samples, sealed.body))
        self._memory_bytes += len(sealed.body)
        while self._memory_bytes > self._max_bytes and len(self._in_memory) > 1:
            if self._spill_oldest() is not None:
                self._give_up(self._in_memory[0])

    def send(self) -> None:
        """Publish all that waits; what is under way in the end is as much as the publisher lets be.

        Raises:
            BusError: something isn't confirmed: it waits, and what follows it.
        """
        try:
            while self._unsent:
                outgoing = self._unsent.popleft()
                if not outgoing.done:
                    self._send(outgoing)
        except Exception:
            self._recall()
            raise

    def settle(self) -> None:
        """Wait until all that was sent is confirmed.

        Raises:
            BusError: as `send`.
        """
        try:
            self._publisher.settle()
        except Exception:
            self._recall()
            raise

    def shrink(self, max_bytes: int) -> None:
        """Give up the oldest on disk until the spool takes no more than so much."""
        while self._on_disk and self.disk_bytes > max_bytes:
            self._give_up(self._on_disk[0])

    def spill(self) -> SpoolError | None:
        """Write everything in memory to disk; return the reason if something is left."""
        failure = None
        while self._in_memory and failure is None:
            failure = self._spill_oldest()
        return failure

    def close(self) -> None:
        """Let go of the spool, which goes if it is empty."""
        if self._spool is not None:
            self._spool.close()

    def abandon(self) -> None:
        """Forget it all in a forked child: it is the parent's."""
        if self._spool is not None:
            self._spool.let_go()

    def _add(self, where: deque[_Outgoing], outgoing: _Outgoing) -> None:
        where.append(outgoing)
        self._unsent.append(outgoing)
        self._waiting += 1

    def _send(self, outgoing: _Outgoing) -> None:
        body = outgoing.body
        if body is None and self._spool is not None:
            body = self._spool.read(outgoing.entry)
        if body is None:  # torn, or taken away by somebody
            self._give_up(outgoing)
            return
        properties = self._properties(self._sequence_of(outgoing))
        routing_key = f"{self.origin.agent}.{outgoing.domain}"
        self._publisher.send(self._exchange, routing_key, body, properties, partial(self._confirm, outgoing, body))
        if not self._is_trusted:
            self._publisher.settle()
            self._is_trusted = True

    def _recall(self) -> None:
        """Let everything that isn't confirmed wait again, in order."""
        self._is_trusted = False
        self._unsent = deque(outgoing for outgoing in chain(self._on_disk, self._in_memory) if not outgoing.done)

    def _confirm(self, outgoing: _Outgoing, body: bytes) -> None:
        if outgoing.done:  # given up while it was under way
            return
        self._end(outgoing)
        self._confirmed(Sealed(outgoing.domain, body, outgoing.samples))

    def _give_up(self, outgoing: _Outgoing) -> None:
        self.dropped += outgoing.samples
        self._end(outgoing)

    def _end(self, outgoing: _Outgoing) -> None:
        """Mark an entry as done; its place is freed after those before it."""
        outgoing.done = True
        self._waiting -= 1
        if outgoing.body is not None:
            self._memory_bytes -= len(outgoing.body)
        elif self._spool is not None:
            self._spool.remove(outgoing.entry)
            self.disk_bytes -= outgoing.disk_bytes
        for waiting in (self._on_disk, self._in_memory):
            while waiting and waiting[0].done:
                waiting.popleft()

    def _spill_oldest(self) -> SpoolError | None:
        """Move the oldest in memory to disk, where the oldest gives way to it; why that isn't possible."""
        outgoing = self._in_memory[0]
        if self._spool is None or outgoing.body is None:
            return SpoolError("there is no spool")
        size = bytes_on_disk(len(outgoing.body))
        if size > self._max_spool_bytes:
            return SpoolError(f"spool_bytes: {self._max_spool_bytes} are too few for an envelope")
        self.shrink(self._max_spool_bytes - size)
        self._sequence_of(outgoing)
        try:
            self._spool.write(outgoing.entry, outgoing.body)
        except SpoolError as error:
            self._note_full_disk(error)
            return error
        self._is_writable = True
        self._memory_bytes -= len(outgoing.body)
        self.disk_bytes += size
        outgoing.body, outgoing.disk_bytes = None, size
        self._on_disk.append(self._in_memory.popleft())
        while self._in_memory and self._in_memory[0].done:
            self._in_memory.popleft()
        return None

    def _note_full_disk(self, error: SpoolError) -> None:
        if self._is_writable:
            self._is_writable = False
            _logger.warning("what has no room in memory is dropped and counted: %s", error)

    def _sequence_of(self, outgoing: _Outgoing) -> int:
        if outgoing.sequence is None:
            self._sequence += 1
            outgoing.sequence = self._sequence
        return outgoing.sequence

    def _properties(self, sequence: int) -> pika.BasicProperties:
        return pika.BasicProperties(
            content_type=CONTENT_TYPE,
            delivery_mode=PERSISTENT,
            message_id=f"{self.origin.source}:{sequence}",
            timestamp=int(time()),
            app_id=self.origin.agent,
            headers={"source": self.origin.source, "published_at_ns": time_ns()},
        )
