from typing import Any, Generic

from pika import amqp_object, spec
from typing_extensions import TypeVar

_MethodT_co = TypeVar("_MethodT_co", bound=amqp_object.Method, covariant=True, default=Any)

class Frame(amqp_object.AMQPObject):
    frame_type: int
    channel_number: int
    def marshal(self) -> bytes: ...

class Method(Frame, Generic[_MethodT_co]):
    def __init__(self, channel_number: int, method: _MethodT_co) -> None: ...
    @property
    def method(self) -> _MethodT_co: ...

class Header(Frame):
    body_size: int
    properties: spec.BasicProperties
    def __init__(self, channel_number: int, body_size: int, props: spec.BasicProperties) -> None: ...

class Body(Frame):
    fragment: bytes
    def __init__(self, channel_number: int, fragment: bytes) -> None: ...

class Heartbeat(Frame):
    def __init__(self) -> None: ...

class ProtocolHeader(amqp_object.AMQPObject):
    def marshal(self) -> bytes: ...

def decode_frame(data_in: bytes) -> tuple[int, Frame | ProtocolHeader | None]: ...
