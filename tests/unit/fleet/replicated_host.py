"""Hosts of a replicated fleet in one process: a worker with one shard up to its queue, another host, and their log."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from busmon.bus.log.reading import LogEntry
from busmon.errors import LogInterruptedError
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.owned_log import OwnedLog
from busmon.fleet.worker.pace import Pace
from busmon.fleet.worker.paced_log import PacedLog
from busmon.fleet.worker.quarantine_shares import QuarantineShares
from busmon.fleet.worker.replication import Replication
from busmon.fleet.worker.suspects import Suspects
from busmon.registry.admission.families import Families
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.shard.replicated_shard import ReplicatedShard
from busmon.replication.counting import Position
from busmon.replication.participant import Participant
from busmon.replication.records import Kind, Marker, Record, Release, decode, encode, make_birth
from busmon.wire.formats import Formats
from tests.unit.fleet.later import Later
from tests.unit.fleet.settlements import QUEUE, UNRELAYED, VOTE, Broker
from tests.unit.registry.registries import CATALOGUE, envelope


class MemoryLog:
    """A shard's log in memory. What another host appends just before the worker's next entry can be given."""

    is_connected = True

    def __init__(self) -> None:
        self.bodies = [make_birth("log-1")]
        self.interposed: list[bytes] = []
        self.taken: list[int] = []
        self.is_interrupted = False
        self._read = 0

    def read_from(self, start: int | str, *, is_known: bool = False) -> None:
        del is_known
        self._read = start if isinstance(start, int) else 0 if start == "first" else len(self.bodies) - 1

    def append(self, body: bytes) -> None:
        self.bodies += [*self.interposed, body]
        self.interposed = []

    def take(self, _wait_seconds: float) -> list[LogEntry]:
        if self.is_interrupted:
            raise LogInterruptedError("the connection was lost")
        begin, self._read = self._read, len(self.bodies)
        self.taken += range(begin, self._read)
        return [LogEntry(offset, body) for offset, body in enumerate(self.bodies)][begin:]


class OtherHost:
    """A host that takes the shard, and counts a vote of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self._shard = ReplicatedShard.open(directory, 0, Families(directory, CATALOGUE, 100))
        self._participant = Participant("b")

    def follow(self, bodies: list[bytes]) -> None:
        for offset, body in enumerate(bodies):
            for counted in self._participant.read(decode(body), offset):
                if isinstance(counted, Record):
                    self._shard.follow(counted.payload, self._position)

    @property
    def _position(self) -> Position:
        return Position(self._participant.counting.place, 0, 0, is_whole=True)

    def take_the_shard(self) -> list[bytes]:
        """Return a marker, and the record of a vote."""
        payloads: list[bytes] = []

        def append(payload: bytes, _at: float) -> Position:
            payloads.append(payload)
            return self._position

        self._shard.append = append
        marker, now = self._participant.claim(), time.time()
        self._participant.read(decode(marker), -1)
        self._shard.begin_owning()
        self._shard.fold.envelope(envelope(VOTE, source="other"), now)
        self._shard.commit(now)
        return [marker, *self._participant.append(payloads[0], now)]

    def write_snapshot(self, vote: bytes) -> list[bytes]:
        """Read the record of the vote back; return a snapshot, and the record that confirms it."""
        self._read_back([vote])
        now = time.time()
        snapshot = self._participant.append(self._shard.dump(), now, Kind.SNAPSHOT)
        self._read_back(snapshot)
        return [*snapshot, *self._participant.append(b"{}", now)]

    def _read_back(self, bodies: list[bytes]) -> None:
        for body in bodies:
            self._participant.read(decode(body), 0)

    @staticmethod
    def release(marker: bytes) -> bytes:
        """Return the farewell of the owner by this marker."""
        claim = decode(marker)
        assert isinstance(claim, Marker)
        return encode(Release(claim.log, claim.epoch, claim.owner, claim.host))

    def close(self) -> None:
        self._shard.close()


class Host:
    """A worker with one replicated shard, up to its queue."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.later, self.log, self.broker = Later(), MemoryLog(), Broker(directory)
        self.renewed: list[str] = []
        self.shard = ReplicatedShard.open(directory, 0, Families(directory, CATALOGUE, 100))
        self.suspects = Suspects(directory, 0)
        self.lane = Lane(
            self.shard,
            self.suspects,
            self.broker,
            number=0,
            queue=QUEUE,
            batch_size=100,
            formats=Formats((), QUEUE, 1 << 20),
            ownership=UNRELAYED,
            shares=QuarantineShares(None, None, 1),
            paced_log=PacedLog(),
            progress=lambda: None,
        )
        self.pace = Pace(self.lane, lambda *_: None, 1.0)
        nothing: Any = lambda *_: None  # noqa: E731
        self.followed = OwnedLog(
            self.shard,
            cast("Any", self.log),
            number=0,
            host="a",
            kept_bytes=1 << 30,
            progress=nothing,
            at_reading=nothing,
        )
        consumer = SimpleNamespace(
            suspend=nothing, resume=nothing, renew=lambda queue, _detail: self.renewed.append(queue)
        )
        self.replication = Replication(
            followed=self.followed,
            shard=self.shard,
            lane=self.lane,
            pace=self.pace,
            consumer=cast("Any", consumer),
            queue=QUEUE,
            others=(),
            later=self.later,
            at_owning=nothing,
        )
        self.replication.start()
        self.later.pass_(0.75)

    def votes(self) -> float:
        return Exposition(self.directory).collect().value("votes_cast_total")

    def close(self) -> None:
        self.suspects.close()
        self.shard.close()
