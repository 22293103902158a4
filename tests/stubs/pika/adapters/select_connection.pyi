from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from pika.adapters.base_connection import BaseConnection
from pika.adapters.utils.connection_workflow import AbstractAMQPConnectionWorkflow
from pika.connection import Connection, Parameters

class SelectConnection(BaseConnection):
    def __init__(
        self,
        parameters: Parameters | None = None,
        on_open_callback: Callable[[Connection], Any] | None = None,
        on_open_error_callback: Callable[[Connection, BaseException], Any] | None = None,
        on_close_callback: Callable[[Connection, BaseException], Any] | None = None,
        custom_ioloop: IOLoop | None = None,
        internal_connection_workflow: bool = True,
    ) -> None: ...
    @classmethod
    def create_connection(
        cls,
        connection_configs: Sequence[Parameters],
        on_done: Callable[[Connection | BaseException], Any],
        custom_ioloop: Any = None,
        workflow: AbstractAMQPConnectionWorkflow | None = None,
    ) -> AbstractAMQPConnectionWorkflow: ...

class _Timeout:
    deadline: float

class PollEvents:
    READ: ClassVar[int]
    WRITE: ClassVar[int]
    ERROR: ClassVar[int]

class IOLoop:
    READ: ClassVar[int]
    WRITE: ClassVar[int]
    ERROR: ClassVar[int]
    def __init__(self) -> None: ...
    def activate_poller(self) -> None: ...
    def add_callback_threadsafe(self, callback: Callable[[], Any]) -> None: ...
    def add_handler(self, fd: int, handler: Callable[[int, int], Any], events: int) -> None: ...
    def call_later(self, delay: float, callback: Callable[[], Any]) -> _Timeout: ...
    def close(self) -> None: ...
    def deactivate_poller(self) -> None: ...
    def poll(self) -> None: ...
    def process_timeouts(self) -> None: ...
    def remove_handler(self, fd: int) -> None: ...
    def remove_timeout(self, timeout_handle: _Timeout) -> None: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
