"""The appending to a stream: a channel in confirm mode, on which nobody waits for a confirm.

A confirm proves nothing about a log: an entry counts once it was read back. A return or a nack does say that an entry
is missing, so the appender reports it. On the thread of the loop.
"""

from collections.abc import Callable

from pika import BasicProperties
from pika.channel import Channel
from pika.connection import Connection
from pika.exceptions import ChannelClosedByBroker
from pika.frame import Method
from pika.spec import Basic

from busmon.bus.connect.causes import Cause, LossCause, of_channel

_PERSISTENT = 2


class Appender:
    """The appender to one stream.

    Args:
        exchange: leads to the stream.
        routing_key: selects the stream.
        interrupt: called with the cause when an entry was refused or the channel was closed.

    Attributes:
        is_ready: the broker takes entries.
    """

    def __init__(self, exchange: str, routing_key: str, interrupt: Callable[[Cause], None]) -> None:
        self.is_ready = False
        self._exchange = exchange
        self._routing_key = routing_key
        self._interrupt = interrupt
        self._channel: Channel | None = None

    def on_connected(self, connection: Connection) -> None:
        """Open the channel on a new connection."""
        self._channel = connection.channel(on_open_callback=self._prepare)
        self._channel.add_on_close_callback(self._on_close)

    def on_disconnected(self) -> None:
        """Note that the connection is lost."""
        self._channel = None
        self.is_ready = False

    def append(self, body: bytes) -> None:
        """Publish an entry; only while `is_ready`."""
        assert self._channel is not None  # noqa: S101 - the caller has asked `is_ready`
        properties = BasicProperties(delivery_mode=_PERSISTENT)
        self._channel.basic_publish(self._exchange, self._routing_key, body, properties, mandatory=True)

    def _prepare(self, channel: Channel) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _: self._on_prepared(channel))

    def _on_prepared(self, channel: Channel) -> None:
        self.is_ready = channel is self._channel

    def _on_return(self, _channel: Channel, method: Basic.Return, _properties: BasicProperties, _body: bytes) -> None:
        said = f"returned: exchange {method.exchange!r} has no stream for routing key {method.routing_key!r}"
        self._interrupt(Cause(LossCause.APPEND_REFUSED, said))

    def _on_confirm(self, frame: Method[Basic.Ack | Basic.Nack]) -> None:
        if isinstance(frame.method, Basic.Nack):
            self._interrupt(Cause(LossCause.APPEND_REFUSED, "nacked: the stream has failed, or has no leader"))

    def _on_close(self, channel: Channel, reason: Exception) -> None:
        if channel is self._channel and isinstance(reason, ChannelClosedByBroker):
            self.on_disconnected()
            self._interrupt(of_channel(reason, missing=LossCause.EXCHANGE_MISSING))
