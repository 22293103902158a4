"""The causes of a loss on the bus, each as a label value and as a line for a person. Pure."""

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from pika import spec
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosed,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
)

from busmon.bus.connect import plugin
from busmon.bus.connect.connection import one_line, translate
from busmon.bus.connect.not_found import is_unavailable
from busmon.errors import BrokerRefusedError, BusError

RIGHTS = "the fleet takes the consumer's permissions (docs/topology.md, 'Declaring and users')"


class LossCause(StrEnum):
    """The causes of a loss or a refusal on the bus: the values of `busmon_reconnects_total{cause}`."""

    UNREACHABLE = "unreachable"
    """No broker answers."""

    REFUSED = "refused"
    """The broker doesn't take the user, the password or the virtual host."""

    CONNECTION_LOST = "connection_lost"
    """The socket failed."""

    CONNECTION_CLOSED = "connection_closed"
    """The broker closed the connection."""

    CONNECTION_BLOCKED = "connection_blocked"
    """The broker stopped reading: it has a memory or disk alarm."""

    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    """The broker sent nothing for two heartbeats."""

    BLOCKED_TIMEOUT = "blocked_timeout"
    """The connection was blocked for longer than pika's `blocked_connection_timeout`."""

    CHANNEL_CLOSED = "channel_closed"
    """The broker closed the channel for a reason that no other cause names."""

    CHANNEL_SILENT = "channel_silent"
    """The broker left a request on a channel unanswered."""

    ACCESS_REFUSED = "access_refused"
    """The user lacks a permission."""

    CONSUMER_TIMEOUT = "consumer_timeout"
    """A delivery was not acknowledged within the broker's `consumer_timeout`."""

    CONSUMER_CANCELLED = "consumer_cancelled"
    """The broker cancelled the consumer."""

    UNANSWERED = "unanswered"
    """The broker doesn't answer `basic.consume`."""

    QUEUE_MISSING = "queue_missing"
    """The broker has no such queue."""

    QUEUE_UNAVAILABLE = "queue_unavailable"
    """The queue exists and doesn't answer: its node is down, or its process starts or stops."""

    EXCHANGE_MISSING = "exchange_missing"
    """The broker has no such exchange."""

    SHARD_LOST = "shard_lost"
    """Another host owns the shard, or may own it: the channel is dropped, so that its deliveries come again."""

    RING_INCOMPLETE = "ring_incomplete"
    """A queue or an exchange of the ring is missing."""

    LOG_REPLACED = "log_replaced"
    """A shard's log isn't the stream that was read before."""

    APPEND_REFUSED = "append_refused"
    """The broker returned or nacked an entry of a shard's log."""

    QUARANTINE_REFUSED = "quarantine_refused"
    """The quarantine returned or nacked a body."""

    FORWARD_REFUSED = "forward_refused"
    """The telemetry exchange returned or nacked an envelope that had waited for the ring."""


class Cause(NamedTuple):
    """A cause and its circumstances.

    Attributes:
        name: a label value.
        detail: the words of pika or the broker, and the remedy where one is known; on one line, without a password.
    """

    name: LossCause
    detail: str

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}"


class Interruptions:
    """The count of losses and refusals by cause, for all connections and channels of a consumer.

    Attributes:
        counts: by cause.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, cause: LossCause) -> None:
        """Count a loss, a refusal or a failed attempt."""
        self.counts[str(cause)] += 1


def of_attempt(error: BusError) -> Cause:
    """Return the cause for which a connection couldn't be opened."""
    return Cause(LossCause.REFUSED if isinstance(error, BrokerRefusedError) else LossCause.UNREACHABLE, str(error))


def of_connection(error: BaseException) -> Cause:
    """Return the cause for which an open connection ended."""
    names = {
        AMQPHeartbeatTimeout: LossCause.HEARTBEAT_TIMEOUT,
        ConnectionBlockedTimeout: LossCause.BLOCKED_TIMEOUT,
        ConnectionClosedByBroker: LossCause.CONNECTION_CLOSED,
    }
    return _with_remedy(names.get(type(error), LossCause.CONNECTION_LOST), str(translate(error)))


def of_channel(error: ChannelClosed, missing: LossCause) -> Cause:
    """Return the cause for which the broker closed a channel; `missing` is the cause for a missing object."""
    return _with_remedy(_of_reply(error, missing), one_line(error.reply_text))


def _with_remedy(name: LossCause, said: str) -> Cause:
    """Make the cause for the broker's words, with the remedy where one is known."""
    remedy = RIGHTS if name == LossCause.ACCESS_REFUSED else plugin.ENABLE if plugin.is_off(said) else ""
    return Cause(name, f"{said}; {remedy}" if remedy else said)


def _of_reply(error: ChannelClosed, missing: LossCause) -> LossCause:
    if error.reply_code == spec.PRECONDITION_FAILED and "acknowledgement" in error.reply_text:
        return LossCause.CONSUMER_TIMEOUT
    if is_unavailable(error.reply_code, error.reply_text):
        return LossCause.QUEUE_UNAVAILABLE
    known = {spec.NOT_FOUND: missing, spec.ACCESS_REFUSED: LossCause.ACCESS_REFUSED}
    return known.get(error.reply_code, LossCause.CHANNEL_CLOSED)
