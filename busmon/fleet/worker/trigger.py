"""The causes that close a batch: the values of `busmon_batches_total{trigger}`."""

from enum import StrEnum


class Trigger(StrEnum):
    """The cause of one commit."""

    SIZE = "size"
    """It is full."""

    INTERVAL = "interval"
    """It is old enough."""

    DRAIN = "drain"
    """The worker ends."""

    CANCEL = "cancel"
    """The broker cancelled the consumer."""

    DROPS = "drops"
    """Bodies that the quarantine dropped are counted next, in a commit of their own."""

    REMOVAL = "removal"
    """Series are removed next."""

    RELOAD = "reload"
    """The catalogue was loaded again; the bounded series of its families are made next."""

    SNAPSHOT = "snapshot"
    """A snapshot of the shard is appended to its log next."""

    RETRY = "retry"
    """The commit before it failed."""

    FAULT = "fault"
    """A delivery is counted alone: a batch could not be counted, or a worker died in a commit."""
