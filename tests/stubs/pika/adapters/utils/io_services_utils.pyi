from abc import ABCMeta
from typing import Any

class _AsyncPlaintextTransport(metaclass=ABCMeta):
    def __init__(self, sock: Any, protocol: Any, nbio: Any) -> None: ...

class _AsyncSSLTransport(metaclass=ABCMeta):
    def __init__(self, sock: Any, protocol: Any, nbio: Any) -> None: ...
