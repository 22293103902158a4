"""The size of a log since its last snapshot: when the next is due, and whether the log is long enough. Pure."""

from dataclasses import dataclass

LEAST_INTERVAL_BYTES = 32 * 1024 * 1024
"""The least distance between two snapshots."""


@dataclass(slots=True)
class LogSize:
    """The size of one shard's log, as a reader of it knows.

    Attributes:
        kept_bytes: what RabbitMQ keeps in any case.
        bytes: of the log since the last snapshot, that one included.
        snapshot_bytes: of the last snapshot.
    """

    kept_bytes: int
    bytes: int = 0
    snapshot_bytes: int = 0

    def begin(self, snapshot_bytes: int) -> None:
        """Note a snapshot of this size."""
        self.bytes = self.snapshot_bytes = snapshot_bytes

    @property
    def interval_bytes(self) -> int:
        """Return the bytes of records after which the next snapshot is due."""
        return min(max(LEAST_INTERVAL_BYTES, 2 * self.snapshot_bytes), self.kept_bytes // 4)

    @property
    def is_snapshot_due(self) -> bool:
        """Return whether so many records follow the last snapshot that the next is due.

        The size of a snapshot alone makes no other one due.
        """
        return self.bytes - self.snapshot_bytes >= self.interval_bytes

    @property
    def obstacle(self) -> str:
        """Return why a host without files may find no whole snapshot in the log; empty if it always finds one."""
        needed_bytes = 2 * self.snapshot_bytes + self.interval_bytes
        if needed_bytes <= self.kept_bytes:
            return ""
        return (
            f"two snapshots and the records between them take {needed_bytes:,} bytes, and RabbitMQ keeps "
            f"{self.kept_bytes:,} of them: set a policy with a larger max-length-bytes"
        )
