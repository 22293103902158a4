"""The owner writes a snapshot when so many records follow the last, and a log that can't hold two is named."""

from busmon.replication.log_size import LogSize

MIB = 1 << 20


def is_due(size: LogSize, more: int) -> bool:
    """Add bytes to the log; return whether the next snapshot is due."""
    size.bytes += more
    return size.is_snapshot_due


def obstacle(snapshot_bytes: int) -> str:
    """Return the obstacle of a log of 1 GiB with such a snapshot."""
    size = LogSize(1024 * MIB)
    size.begin(snapshot_bytes)
    return size.obstacle


def test_a_small_snapshot_is_followed_by_the_next_after_the_least_interval() -> None:
    size = LogSize(1024 * MIB)
    assert [is_due(size, more) for more in (32 * MIB - 1, 1)] == [False, True]
    size.begin(1 * MIB)
    assert [is_due(size, more) for more in (0, 32 * MIB - 1, 1)] == [False, False, True]


def test_a_snapshot_of_a_third_of_the_log_is_followed_by_another_only_after_other_records() -> None:
    size = LogSize(1024 * MIB)
    size.begin(340 * MIB)
    assert [is_due(size, more) for more in (0, 255 * MIB, 1 * MIB)] == [False, False, True]


def test_a_log_that_cannot_hold_two_snapshots_and_the_records_between_them_is_named() -> None:
    assert obstacle(384 * MIB) == ""
    assert obstacle(385 * MIB) == (
        "two snapshots and the records between them take 1,075,838,976 bytes, and RabbitMQ keeps 1,073,741,824 of "
        "them: set a policy with a larger max-length-bytes"
    )
