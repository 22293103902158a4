"""The replicas of this host: whether a scrape may show them, and how their owners' clocks differ from this host's.

A replica that is being read from its log has a part of its totals. A scrape of that part would look like a reset of
every counter, and later like a growth of all. So there is no scrape until each replica is whole. Used by the scrape's
thread alone.
"""

import time
from pathlib import Path

from busmon import status
from busmon.errors import ReplicaIncompleteError
from busmon.exporter.readiness import rollcall
from busmon.exporter.readiness.rollcall import READING


class Replicas:
    """The check of the replicas before and after a scrape.

    Args:
        registry_dir: where the status files are.

    Attributes:
        ahead_seconds: by how much this host's clock is ahead of a replica's owner's, where they differ, by the name of
            the replica's writer; as its worker last said.
    """

    def __init__(self, registry_dir: Path) -> None:
        self._registry_dir = registry_dir
        self._were_whole = False
        self.ahead_seconds: dict[str, float] = {}

    def require_whole(self) -> None:
        """Require that no replica is being read.

        At first each worker must have said so: what a killed fleet left may be a part. Later a worker without a status
        is one that ended, and its replicas stay as they are until it says that it reads again.

        Raises:
            ReplicaIncompleteError: a replica is being read from its log, or isn't known yet.
        """
        fleet = status.read(self._registry_dir)
        for worker in fleet.workers:
            for shard in worker.shards:
                if shard.replica is None or shard.replica.state == READING:
                    raise ReplicaIncompleteError(f"shard {shard.shard} is still being read from its log")
                if shard.replica.clock_ahead_seconds is not None:
                    self.ahead_seconds[f"shard{shard.shard}"] = shard.replica.clock_ahead_seconds
        if not self._were_whole:
            roll = rollcall.call(fleet, time.time())
            if not roll.shards or roll.missing_workers:
                raise ReplicaIncompleteError("not every worker has said yet that its replicas are whole")
            self._were_whole = True
