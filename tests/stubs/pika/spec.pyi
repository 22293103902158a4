from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pika import amqp_object
from pika.delivery_mode import DeliveryMode

PORT: int
ACCESS_REFUSED: int
COMMAND_INVALID: int
CONNECTION_FORCED: int
FRAME_BODY: int
FRAME_END: int
FRAME_END_SIZE: int
FRAME_HEADER: int
FRAME_HEADER_SIZE: int
FRAME_MAX_SIZE: int
FRAME_METHOD: int
INTERNAL_ERROR: int
NOT_ALLOWED: int
NOT_FOUND: int
NOT_IMPLEMENTED: int
PRECONDITION_FAILED: int
RESOURCE_LOCKED: int

class Connection(amqp_object.Class):
    class Blocked(amqp_object.Method):
        reason: str
        def __init__(self, reason: str = "") -> None: ...

    class Unblocked(amqp_object.Method): ...

    class Close(amqp_object.Method):
        reply_code: int
        reply_text: str
        class_id: int
        method_id: int
        def __init__(
            self,
            reply_code: int | None = None,
            reply_text: str = "",
            class_id: int | None = None,
            method_id: int | None = None,
        ) -> None: ...

class Channel(amqp_object.Class):
    class Close(amqp_object.Method):
        reply_code: int
        reply_text: str
        def __init__(
            self,
            reply_code: int | None = None,
            reply_text: str = "",
            class_id: int | None = None,
            method_id: int | None = None,
        ) -> None: ...

    class OpenOk(amqp_object.Method): ...

class Confirm(amqp_object.Class):
    class SelectOk(amqp_object.Method): ...

class Exchange(amqp_object.Class):
    class BindOk(amqp_object.Method): ...
    class DeclareOk(amqp_object.Method): ...
    class DeleteOk(amqp_object.Method): ...
    class UnbindOk(amqp_object.Method): ...

class Queue(amqp_object.Class):
    class BindOk(amqp_object.Method): ...

    class DeclareOk(amqp_object.Method):
        queue: str
        message_count: int
        consumer_count: int

    class DeleteOk(amqp_object.Method):
        message_count: int

    class PurgeOk(amqp_object.Method):
        message_count: int

    class UnbindOk(amqp_object.Method): ...

class Tx(amqp_object.Class):
    class CommitOk(amqp_object.Method): ...
    class SelectOk(amqp_object.Method): ...

class Basic(amqp_object.Class):
    class Ack(amqp_object.Method):
        delivery_tag: int
        multiple: bool
        def __init__(self, delivery_tag: int = 0, multiple: bool = False) -> None: ...

    class Cancel(amqp_object.Method):
        consumer_tag: str
        def __init__(self, consumer_tag: str | None = None, nowait: bool = False) -> None: ...

    class CancelOk(amqp_object.Method):
        consumer_tag: str

    class ConsumeOk(amqp_object.Method):
        consumer_tag: str

    class Deliver(amqp_object.Method):
        consumer_tag: str
        delivery_tag: int
        redelivered: bool
        exchange: str
        routing_key: str
        def __init__(
            self,
            consumer_tag: str | None = None,
            delivery_tag: int | None = None,
            redelivered: bool = False,
            exchange: str | None = None,
            routing_key: str | None = None,
        ) -> None: ...

    class GetOk(amqp_object.Method):
        delivery_tag: int
        redelivered: bool
        exchange: str
        routing_key: str
        message_count: int

    class Nack(amqp_object.Method):
        delivery_tag: int
        multiple: bool
        requeue: bool
        def __init__(self, delivery_tag: int = 0, multiple: bool = False, requeue: bool = True) -> None: ...

    class Publish(amqp_object.Method):
        exchange: str
        routing_key: str
        mandatory: bool
        def __init__(
            self,
            ticket: int = 0,
            exchange: str = "",
            routing_key: str = "",
            mandatory: bool = False,
            immediate: bool = False,
        ) -> None: ...

    class QosOk(amqp_object.Method): ...

    class Reject(amqp_object.Method):
        delivery_tag: int
        requeue: bool

    class Return(amqp_object.Method):
        reply_code: int
        reply_text: str
        exchange: str
        routing_key: str

# A property may be missing, and one that isn't UTF-8 is bytes: `| Any`, as in typeshed, asks no reader to say so.
class BasicProperties(amqp_object.Properties):
    FLAG_CONTENT_TYPE: ClassVar[int]
    FLAG_CONTENT_ENCODING: ClassVar[int]
    FLAG_HEADERS: ClassVar[int]
    FLAG_DELIVERY_MODE: ClassVar[int]
    FLAG_PRIORITY: ClassVar[int]
    FLAG_CORRELATION_ID: ClassVar[int]
    FLAG_REPLY_TO: ClassVar[int]
    FLAG_EXPIRATION: ClassVar[int]
    FLAG_MESSAGE_ID: ClassVar[int]
    FLAG_TIMESTAMP: ClassVar[int]
    FLAG_TYPE: ClassVar[int]
    FLAG_USER_ID: ClassVar[int]
    FLAG_APP_ID: ClassVar[int]
    FLAG_CLUSTER_ID: ClassVar[int]
    content_type: str | Any
    content_encoding: str | Any
    headers: dict[str, Any] | Any
    delivery_mode: int | Any
    priority: int | Any
    correlation_id: str | Any
    reply_to: str | Any
    expiration: str | Any
    message_id: str | Any
    timestamp: int | Any
    type: str | Any
    user_id: str | Any
    app_id: str | Any
    cluster_id: str | Any
    def __init__(
        self,
        content_type: str | None = None,
        content_encoding: str | None = None,
        headers: Mapping[str, Any] | None = None,
        delivery_mode: int | DeliveryMode | None = None,
        priority: int | None = None,
        correlation_id: str | None = None,
        reply_to: str | None = None,
        expiration: str | None = None,
        message_id: str | None = None,
        timestamp: int | None = None,
        type: str | None = None,
        user_id: str | None = None,
        app_id: str | None = None,
        cluster_id: str | None = None,
    ) -> None: ...
    def decode(self, encoded: bytes, offset: int = 0) -> Self: ...
    def encode(self) -> list[bytes]: ...
