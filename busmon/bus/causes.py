"""Why a connection, a channel or a consumer went: a constant word for a label value, and a line for a person. Pure."""

from typing import NamedTuple

from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosed,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
)

from busmon.bus.connection import one_line, translated
from busmon.errors import BrokerRefusedError

_ACCESS_REFUSED = 403
_NOT_FOUND = 404
_PRECONDITION_FAILED = 406


class Cause(NamedTuple):
    """Attributes.

    name: `unreachable`, `refused`, `connection_lost`, `connection_closed`, `connection_blocked`, `heartbeat_timeout`,
        `blocked_timeout`, `channel_closed`, `access_refused`, `consumer_timeout`, `consumer_cancelled`,
        `queue_missing`, `exchange_missing`, `ring_incomplete`, `quarantine_refused`, `forward_refused`, `unanswered` or
        `channel_silent`.
    detail: what pika or the broker said, on one line, without a password.
    """

    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


def of_attempt(error: BaseException) -> Cause:
    """Why a connection couldn't be opened."""
    found = translated(error)
    return Cause("refused" if isinstance(found, BrokerRefusedError) else "unreachable", str(found))


def of_connection(error: BaseException) -> Cause:
    """Why an open connection ended."""
    names = {
        AMQPHeartbeatTimeout: "heartbeat_timeout",
        ConnectionBlockedTimeout: "blocked_timeout",
        ConnectionClosedByBroker: "connection_closed",
    }
    return Cause(names.get(type(error), "connection_lost"), str(translated(error)))


def of_channel(error: ChannelClosed, missing: str) -> Cause:
    """Why the broker closed a channel; `missing` names what it may not have found."""
    return Cause(_name(error, missing), one_line(error.reply_text))


def _name(error: ChannelClosed, missing: str) -> str:
    if error.reply_code == _PRECONDITION_FAILED and "acknowledgement" in error.reply_text:
        return "consumer_timeout"
    return {_NOT_FOUND: missing, _ACCESS_REFUSED: "access_refused"}.get(error.reply_code, "channel_closed")
