from typing import Any

from pika.connection import Connection

class BaseConnection(Connection):
    _nbio: Any
    _transport: Any
    @property
    def ioloop(self) -> Any: ...
    def _proto_data_received(self, data: bytes) -> None: ...
    def _proto_connection_made(self, transport: Any) -> None: ...
