"""A shard with a worker's lane and upkeep, and in the broker's place a list of what the lane settled. One thread."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
from busmon.registry.admission.budgets import Budgets
from busmon.settings import Settings
from busmon.wire.formats import Formats
from tests.fuzz.ways import RULES
from tests.unit.registry.registries import Registry

MAX_BODY_BYTES = 1 << 16
EXCHANGE = "telemetry"
"""Of all deliveries, and Celery's too, so that its events are decoded."""


class Settlements:
    """The broker's place: what the lane settled and quarantined since the last look."""

    def __init__(self) -> None:
        self.settled: list[int] = []
        self.refused: list[tuple[int, Mapping[str, str]]] = []

    def settle(self, _queue: str, tags: Sequence[int]) -> None:
        """Note settled deliveries."""
        self.settled += tags

    def quarantine(
        self, _queue: str, delivery: Delivery, headers: Mapping[str, str], stored: Callable[[], None]
    ) -> None:
        """Note a quarantined delivery, which the lane settles, too."""
        self.refused.append((delivery.delivery_tag, headers))
        stored()


class WorkedShard:
    """A shard as a worker has it, up to its lane."""

    def __init__(self, directory: Path, number: int, budgets: Budgets, settlements: Settlements) -> None:
        queue = f"telemetry.fold.{number}"
        self.shard = Registry(directory, number, max_adopted=Settings().max_adopted_families, budgets=budgets).shard
        self.shard.rewind(time.time())
        self.suspects = Suspects(directory, number)
        self.lane = Lane(
            self.shard,
            self.suspects,
            settlements,
            number=number,
            queue=queue,
            batch_size=1000,
            formats=Formats(RULES, queue, MAX_BODY_BYTES, celery_exchanges=frozenset({EXCHANGE})),
            ownership=Ownership(),
            shares=QuarantineShares(None, None, 1),
            paced_log=PacedLog(),
            progress=lambda: None,
        )
        self.upkeep = Upkeep(self.shard, self.lane, Pace(self.lane, lambda *_: None, 1.0))

    def close(self) -> None:
        """Close the files."""
        self.suspects.close()
        self.shard.close()


def deliver(
    tag: int,
    body: bytes,
    routing_key: str,
    redelivered: bool = False,  # noqa: FBT001, FBT002 - as AMQP's frame has it
    **properties: Any,
) -> Delivery:
    """Return the delivery of a body."""
    method = Basic.Deliver("busmon", tag, redelivered, EXCHANGE, routing_key)
    return Delivery.from_pika(method, BasicProperties(**properties), body)
