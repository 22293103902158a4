"""Many connections that are held or repeated, by clients who mean no good: each that is ended is opened again."""

import selectors
import socket
import threading
from contextlib import suppress
from typing import NamedTuple, Self

_POLL_SECONDS = 0.05
_CHUNK_BYTES = 65_536


class Attack(NamedTuple):
    """The part of each connection in a flood.

    Attributes:
        sent: its bytes.
        repeats: whether it sends them without end.
        reads: whether it reads the answers.
    """

    sent: bytes
    repeats: bool = False
    reads: bool = True


class Flood:
    """Connections to a port of 127.0.0.1, on a thread of its own.

    Args:
        port: where to.
        count: of connections.
        attack: what each does.

    Attributes:
        ended: connections that the server ended.
    """

    def __init__(self, port: int, count: int, attack: Attack) -> None:
        self._port = port
        self._count = count
        self._attack = attack
        self._selector = selectors.DefaultSelector()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.ended = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for key in [*self._selector.get_map().values()]:
            key.fileobj.close()  # type: ignore[union-attr]  # only sockets are registered
        self._selector.close()

    def has_lost(self, more_than: int) -> bool:
        """Tell if the server ended more connections than these."""
        return self.ended > more_than

    def _run(self) -> None:
        for _ in range(self._count):
            self._open()
        while not self._over.is_set():
            for key, events in self._selector.select(_POLL_SECONDS):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                try:
                    is_open = self._serve(connection, events)
                except BlockingIOError:
                    continue
                except OSError:
                    is_open = False
                if not is_open:
                    self.ended += 1
                    self._selector.unregister(connection)
                    connection.close()
                    self._open()

    def _open(self) -> None:
        connection = socket.socket()
        connection.settimeout(0)
        if not self._attack.reads:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with suppress(BlockingIOError):
            connection.connect(("127.0.0.1", self._port))
        self._selector.register(connection, selectors.EVENT_WRITE)

    def _serve(self, connection: socket.socket, events: int) -> bool:
        """Send or read what can be; return whether the connection is still open."""
        if events & selectors.EVENT_READ:
            return bool(connection.recv(_CHUNK_BYTES))
        connection.send(self._attack.sent)
        if not self._attack.repeats:
            self._selector.modify(connection, selectors.EVENT_READ)
        elif self._attack.reads:
            self._selector.modify(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
        return True
