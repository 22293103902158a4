"""A lane with a registry beneath it, and in the broker's place a list of what the lane asked of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import orjson
from pika import BasicProperties
from pika.spec import Basic

from busmon.bus.frames.delivery import Delivery
from busmon.fleet.worker.housekeeping import Upkeep
from busmon.fleet.worker.lane import Lane
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.pace import Pace
from busmon.fleet.worker.paced_log import PacedLog
from busmon.fleet.worker.quarantine_shares import QuarantineShares
from busmon.fleet.worker.suspects import Suspects
from busmon.registry.scrape.exposition import Exposition
from busmon.settings.kinds import FormatRule
from busmon.wire.formats import Formats
from tests.unit.registry.registries import Registry

QUEUE = "telemetry.fold.0"
UNRELAYED = Ownership()
NOW = 1_763_794_800.0
VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}


class Settled(NamedTuple):
    """A call of `settle`, and how many votes a scrape showed at that moment."""

    tags: list[int]
    votes: float


class Quarantined(NamedTuple):
    """A call of `quarantine`."""

    delivery: Delivery
    headers: dict[str, str]
    stored: Callable[[], None]


class Broker:
    """Records; it holds and acknowledges nothing, and a body is in quarantine once a test says that it is stored."""

    def __init__(self, directory: Path) -> None:
        self.calls: list[Settled | Quarantined] = []
        self._directory = directory

    def settle(self, queue: str, tags: Sequence[int]) -> None:
        assert queue == QUEUE
        self.calls.append(Settled([*tags], Exposition(self._directory).collect().value("votes_cast_total")))

    def quarantine(
        self, queue: str, delivery: Delivery, headers: Mapping[str, str], stored: Callable[[], None]
    ) -> None:
        assert queue == QUEUE
        self.calls.append(Quarantined(delivery, {**headers}, stored))

    @property
    def settled(self) -> list[int]:
        """Every tag that was settled, in order."""
        return [tag for call in self.calls if isinstance(call, Settled) for tag in call.tags]

    @property
    def quarantined(self) -> list[Quarantined]:
        return [call for call in self.calls if isinstance(call, Quarantined)]


class Worker:
    """One process's life with one shard, up to its lane; a context manager."""

    def __init__(  # noqa: PLR0913 - most tests say the first alone
        self,
        directory: Path,
        *,
        batch_size: int = 100,
        max_body_bytes: int = 1 << 20,
        formats: Sequence[FormatRule] = (),
        ownership: Ownership = UNRELAYED,
        quarantined_bodies: int | None = None,
        progress: Callable[[], object] = lambda: None,
    ) -> None:
        self.registry = Registry(directory)
        self.suspects = Suspects(directory, 0)
        self.broker = Broker(directory)
        self.paced_log = PacedLog()
        self.lane = Lane(
            self.registry.shard,
            self.suspects,
            self.broker,
            number=0,
            queue=QUEUE,
            batch_size=batch_size,
            formats=Formats(formats, QUEUE, max_body_bytes),
            ownership=ownership,
            shares=QuarantineShares(quarantined_bodies, None, 1),
            paced_log=self.paced_log,
            progress=progress,
        )
        self._directory = directory

    def expire(self, silent_since: float) -> None:
        """Expire the sources that published nothing since then, as a beat does."""
        pace = Pace(self.lane, lambda *_: None, 1.0)
        Upkeep(self.registry.shard, self.lane, pace).beat(silent_since, self._directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.suspects.close()
        self.registry.shard.close()

    def shows(self, sample_name: str, **labels: str) -> float:
        """Scrape now."""
        return Exposition(self._directory).collect().value(sample_name, **labels)

    def votes(self) -> float:
        return self.shows("votes_cast_total")


def body(*samples: Any, source: str = "s", agent: str | None = "planner", ts: float | None = None) -> bytes:
    return orjson.dumps({"v": 1, "source": source, "agent": agent, "ts": ts, "samples": samples})


def delivery(tag: int, content: bytes | None = None, *, redelivered: bool = False, **properties: Any) -> Delivery:
    """A vote with an id of its own, unless other content or another id is given."""
    content = body(VOTE) if content is None else content
    stated = {"message_id": f"s:{tag}"} | properties
    method = Basic.Deliver("busmon", tag, redelivered, "telemetry", "planner.task")
    return Delivery.from_pika(method, BasicProperties(**stated), content)
