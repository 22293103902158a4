from typing import Any

from pika.connection import Connection

class BaseConnection(Connection):
    @property
    def ioloop(self) -> Any: ...
    def _proto_connection_made(self, transport: Any) -> None: ...
