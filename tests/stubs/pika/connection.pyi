import ssl
from collections.abc import Callable
from typing import Any

from pika import frame, spec
from pika.callback import CallbackManager
from pika.channel import Channel
from pika.credentials import ExternalCredentials, PlainCredentials

class Parameters:
    blocked_connection_timeout: float | None
    client_properties: dict[str, Any] | None
    connection_attempts: int
    credentials: PlainCredentials | Any
    frame_max: int
    heartbeat: int | Callable[[Connection, float], int] | None
    host: str
    port: int
    socket_timeout: float | None
    stack_timeout: float | None
    ssl_options: SSLOptions | Any
    virtual_host: str
    tcp_options: dict[str, int] | None

class ConnectionParameters(Parameters):
    def __init__(
        self,
        host: str = ...,
        port: int = ...,
        virtual_host: str = ...,
        credentials: PlainCredentials | ExternalCredentials = ...,
        *,
        ssl_options: SSLOptions | None = ...,
        client_properties: dict[str, Any] | None = ...,
    ) -> None: ...

class URLParameters(Parameters):
    def __init__(self, url: str) -> None: ...

class SSLOptions:
    @property  # an attribute of pika's, which nothing sets here
    def context(self) -> ssl.SSLContext: ...
    server_hostname: str | None
    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None: ...

class Connection:
    params: Parameters
    callbacks: CallbackManager
    bytes_received: int
    frames_received: int
    _channels: dict[int, Channel]
    _frame_buffer: bytes
    def add_on_close_callback(self, callback: Callable[[Connection, Exception], Any]) -> None: ...
    def add_on_connection_blocked_callback(
        self, callback: Callable[[Connection, frame.Method[spec.Connection.Blocked]], Any]
    ) -> None: ...
    def add_on_connection_unblocked_callback(
        self, callback: Callable[[Connection, frame.Method[spec.Connection.Unblocked]], Any]
    ) -> None: ...
    def channel(
        self, channel_number: int | None = None, on_open_callback: Callable[[Channel], Any] | None = None
    ) -> Channel: ...
    def close(self, reply_code: int = 200, reply_text: str = "Normal shutdown") -> None: ...
    @property
    def is_closed(self) -> bool: ...
    @property
    def is_open(self) -> bool: ...
    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> object: ...
    def _adapter_remove_timeout(self, timeout_id: object) -> None: ...
    def _create_channel(self, channel_number: int, on_open_callback: Callable[[Channel], Any] | None) -> Channel: ...
    def _on_data_available(self, data_in: bytes) -> None: ...
    def _on_stream_terminated(self, error: BaseException | None) -> None: ...
    def _process_frame(self, frame_value: frame.Frame | frame.ProtocolHeader) -> None: ...
    def _read_frame(self) -> tuple[int, frame.Frame | frame.ProtocolHeader | None]: ...
    def _terminate_stream(self, error: BaseException | None) -> None: ...
    def _trim_frame_buffer(self, byte_count: int) -> None: ...
