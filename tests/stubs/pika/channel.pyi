from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, TypeVar

from pika import amqp_object, frame, spec
from pika.connection import Connection

_T = TypeVar("_T", bound=amqp_object.Method)
_Answered: TypeAlias = Callable[[frame.Method[_T]], Any] | None
_OnMessage: TypeAlias = Callable[[Channel, spec.Basic.Deliver, spec.BasicProperties, bytes], Any]
_OnReturn: TypeAlias = Callable[[Channel, spec.Basic.Return, spec.BasicProperties, bytes], Any]
_OnGet: TypeAlias = Callable[[Channel, spec.Basic.GetOk, spec.BasicProperties, bytes], Any]
_OnConfirm: TypeAlias = Callable[[frame.Method[spec.Basic.Ack | spec.Basic.Nack]], Any]

class Channel:
    channel_number: int
    connection: Any  # of the adapter's class
    OPEN: ClassVar[int]
    _cancelled: set[str]
    _consumers: dict[str, _OnMessage]
    _content_assembler: Any
    _state: int
    def __init__(
        self, connection: Connection, channel_number: int, on_open_callback: Callable[[Channel], Any] | None
    ) -> None: ...
    def add_on_cancel_callback(self, callback: Callable[[frame.Method[spec.Basic.Cancel]], Any]) -> None: ...
    def add_on_close_callback(self, callback: Callable[[Channel, Exception], Any]) -> None: ...
    def add_on_return_callback(self, callback: _OnReturn) -> None: ...
    def basic_ack(self, delivery_tag: int = 0, multiple: bool = False) -> None: ...
    def basic_cancel(self, consumer_tag: str = "", callback: _Answered[spec.Basic.CancelOk] = None) -> None: ...
    def basic_consume(
        self,
        queue: str,
        on_message_callback: _OnMessage,
        auto_ack: bool = False,
        exclusive: bool = False,
        consumer_tag: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        callback: _Answered[spec.Basic.ConsumeOk] = None,
    ) -> str: ...
    def basic_get(self, queue: str, callback: _OnGet, auto_ack: bool = False) -> None: ...
    def basic_nack(self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True) -> None: ...
    def basic_publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: spec.BasicProperties | None = None,
        mandatory: bool = False,
    ) -> None: ...
    def basic_qos(
        self,
        prefetch_size: int = 0,
        prefetch_count: int = 0,
        global_qos: bool = False,
        callback: _Answered[spec.Basic.QosOk] = None,
    ) -> None: ...
    def basic_reject(self, delivery_tag: int = 0, requeue: bool = True) -> None: ...
    def close(self, reply_code: int = 0, reply_text: str = "Normal shutdown") -> None: ...
    def confirm_delivery(
        self, ack_nack_callback: _OnConfirm, callback: _Answered[spec.Confirm.SelectOk] = None
    ) -> None: ...
    def exchange_bind(
        self,
        destination: str,
        source: str,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        callback: _Answered[spec.Exchange.BindOk] = None,
    ) -> None: ...
    def exchange_declare(
        self,
        exchange: str,
        exchange_type: str = ...,
        passive: bool = False,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Mapping[str, Any] | None = None,
        callback: _Answered[spec.Exchange.DeclareOk] = None,
    ) -> None: ...
    def exchange_delete(
        self,
        exchange: str | None = None,
        if_unused: bool = False,
        callback: _Answered[spec.Exchange.DeleteOk] = None,
    ) -> None: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_open(self) -> bool: ...
    def queue_bind(
        self,
        queue: str,
        exchange: str,
        routing_key: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        callback: _Answered[spec.Queue.BindOk] = None,
    ) -> None: ...
    def queue_declare(
        self,
        queue: str,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        callback: _Answered[spec.Queue.DeclareOk] = None,
    ) -> None: ...
    def queue_delete(
        self,
        queue: str,
        if_unused: bool = False,
        if_empty: bool = False,
        callback: _Answered[spec.Queue.DeleteOk] = None,
    ) -> None: ...
    def queue_purge(self, queue: str, callback: _Answered[spec.Queue.PurgeOk] = None) -> None: ...
    def _on_cancel(self, method_frame: frame.Method[spec.Basic.Cancel]) -> None: ...
    def _on_deliver(
        self, method_frame: frame.Method[spec.Basic.Deliver], header_frame: frame.Header, body: bytes
    ) -> None: ...
    def _on_return(
        self, method_frame: frame.Method[spec.Basic.Return], header_frame: frame.Header, body: bytes
    ) -> None: ...
