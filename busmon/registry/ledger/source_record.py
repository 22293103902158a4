"""The record that a ledger has of one source, and its verdicts on envelopes. Pure."""

from enum import Enum
from typing import NamedTuple


class Verdict(Enum):
    """The ledger's verdict on an envelope."""

    NEW = "new"
    DUPLICATE = "duplicate"
    UNIDENTIFIED = "unidentified"
    """It has no id: a redelivery of it can't be told."""
    UNVERIFIABLE = "unverifiable"
    """Its id is older than what the ledger remembers: it may have been counted."""
    FOREIGN = "foreign"
    """Its source belongs to another user."""


class Gap(NamedTuple):
    """A range of sequences that were not seen, both ends included."""

    first: int
    last: int


class SourceRecord(NamedTuple):
    """The record of one source. The compiled judge of usual ids relies on the order of the fields.

    Attributes:
        high: the highest sequence counted, 0 when none was.
        floor: sequences up to it are no longer told apart.
        gaps: what is missing between `floor` and `high`, ascending.
        heard_at: when its last envelope was folded, in seconds since the epoch.
        user: the user that opened it, as AMQP's `user_id` states it; empty if it was not stated.
        agent: the agent that opened it.
    """

    high: int = 0
    floor: int = 0
    gaps: tuple[Gap, ...] = ()
    heard_at: float = 0.0
    user: str = ""
    agent: str = ""
