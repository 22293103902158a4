from abc import ABCMeta
from collections.abc import Callable, Sequence
from typing import Any

from pika.connection import Connection, Parameters

class AMQPConnectorException(Exception): ...
class AMQPConnectorStackTimeout(AMQPConnectorException): ...

class AMQPConnectorPhaseErrorBase(AMQPConnectorException):
    exception: BaseException
    def __init__(self, exception: BaseException, *args: object) -> None: ...

class AMQPConnectorSocketConnectError(AMQPConnectorPhaseErrorBase): ...

class AMQPConnectionWorkflowFailed(AMQPConnectorException):
    exceptions: Sequence[BaseException]
    def __init__(self, exceptions: Sequence[BaseException], *args: object) -> None: ...

class AMQPConnectionWorkflowAborted(AMQPConnectorException): ...

class AMQPConnector:
    _amqp_conn: Any
    def abort(self) -> None: ...
    def start(
        self,
        addr_record: tuple[Any, ...],
        conn_params: Parameters,
        on_done: Callable[[Connection | BaseException], Any],
    ) -> None: ...

class AbstractAMQPConnectionWorkflow(metaclass=ABCMeta): ...

class AMQPConnectionWorkflow(AbstractAMQPConnectionWorkflow):
    _SOCK_TYPE: int
    _IPPROTO: int
    _nbio: Any
    _connector: AMQPConnector | None
    _connector_factory: Callable[[], AMQPConnector]
    _connection_configs: Sequence[Parameters]
    _on_done: Callable[[Connection | BaseException], Any]
    def __init__(self, _until_first_amqp_attempt: bool = False) -> None: ...
    def abort(self) -> None: ...
    def start(
        self,
        connection_configs: Sequence[Parameters],
        connector_factory: Callable[..., Any],
        native_loop: Any,
        on_done: Callable[[Connection | BaseException], Any],
    ) -> None: ...
