"""A TCP proxy before the broker that can fall silent, as a network does that drops every packet."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """Forwards connections on 127.0.0.1 to the broker's port, until it is silent."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._waker, self._wake = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run)
        self.port: int = self._listener.getsockname()[1]
        self.silent = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join()
        for opened in (self._listener, self._waker, *self._peers):
            opened.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._waker, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._waker:
                        return
                    self._serve(selector, key.fileobj)  # type: ignore[arg-type]  # only sockets are registered

    def _serve(self, selector: selectors.BaseSelector, ready: socket.socket) -> None:
        if ready is self._listener:
            near = self._listener.accept()[0]
            far = socket.create_connection(("127.0.0.1", self._broker_port))
            self._peers |= {near: far, far: near}
            selector.register(near, selectors.EVENT_READ)
            selector.register(far, selectors.EVENT_READ)
        elif received := self._received(ready):
            if not self.silent:
                self._peers[ready].sendall(received)
        else:
            selector.unregister(ready)
            if not self.silent:
                with suppress(OSError):
                    self._peers[ready].shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _received(ready: socket.socket) -> bytes:
        try:
            return ready.recv(65536)
        except ConnectionError:
            return b""
