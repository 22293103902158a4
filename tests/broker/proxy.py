"""A TCP proxy before the broker that can fall silent, as a network does that drops every packet.

It can also leave single channels unserved, as a broker does whose channel process hangs: their frames are dropped both
ways, and heartbeats pass. It can hold what one side sends, as a network does that loses packets one way: they arrive
once it is whole again. And it can put a frame of its own before the client, or alter one of the broker's.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HEADER = b"AMQP"
_HEADER_BYTES = 8
_FRAME = struct.Struct(">BHI")
_CONTENT = (2, 3)  # the types of header and body frames
_DELIVER = b"\x00\x3c\x00\x3c"
_OPENED, _ACK, _NACK = b"\x00\x14\x00\x0b", b"\x00\x3c\x00\x50", b"\x00\x3c\x00\x78"


class Frames:
    """The bytes of one side, cut into the protocol header and frames: the channel of each, and its bytes."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, received: bytes) -> Iterator[tuple[int, bytes]]:
        """Give what is whole by now; the channel of the protocol header is 0."""
        self._buffer += received
        while len(self._buffer) >= _HEADER_BYTES:
            if self._buffer.startswith(_HEADER):
                channel, size = 0, _HEADER_BYTES
            else:
                _, channel, payload_bytes = _FRAME.unpack_from(self._buffer)
                size = _FRAME.size + payload_bytes + 1
            if len(self._buffer) < size:
                return
            yield channel, self._buffer[:size]
            self._buffer = self._buffer[size:]


def delivers(frame: bytes) -> bool:
    """Tell if a frame is part of a delivery, or of a publish."""
    return frame[0] in _CONTENT or frame[_FRAME.size : _FRAME.size + 4] == _DELIVER


class Nacks:
    """Refuses what is published on a channel that was opened while `bad`, as RabbitMQ 3.10 does around a node's loss.

    Attributes:
        bad: channels that are opened now refuse.
        opened: how many channels were opened, of all connections.
        may_answer: while cleared, the proxy stops at the first answer to a publish.
    """

    def __init__(self) -> None:
        self.bad = True
        self.opened = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self._refusing: set[tuple[int, int]] = set()

    def __call__(self, connection: int, channel: int, frame: bytes) -> bytes:
        """Give the frame to pass on: a refusal for each confirm of a bad channel."""
        method = frame[_FRAME.size : _FRAME.size + 4]
        if method == _OPENED:
            self.opened += 1
            (self._refusing.add if self.bad else self._refusing.discard)((connection, channel))
        if method == _ACK:
            self.may_answer.wait()
        if method == _ACK and (connection, channel) in self._refusing:
            return frame[: _FRAME.size] + _NACK + frame[_FRAME.size + 4 :]
        return frame


class Proxy:
    """Forwards connections on 127.0.0.1 to the broker's port, until it is silent.

    Attributes:
        silent: nothing passes.
        serves: tells if a frame passes, by the connection's number, the channel's, and its bytes.
        alters: gives the bytes of a frame that passes, by the same.
        holds: tells if what is sent on a connection waits from here on, by its number, and whether the broker sends it.
        connections: how many there were.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._waker, self._wake = socket.socketpair()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run)
        self.port: int = self._listener.getsockname()[1]
        self.silent = False
        self.serves: Callable[[int, int, bytes], bool] = lambda _connection, _channel, _frame: True
        self.alters: Callable[[int, int, bytes], bytes] = lambda _connection, _channel, frame: frame
        self.holds: Callable[[int, bool], bool] = lambda _connection, _from_broker: False
        self.connections = 0
        self._held: dict[socket.socket, list[bytes]] = {}
        self._far: set[socket.socket] = set()
        self._frames: dict[socket.socket, tuple[int, Frames]] = {}

    def inject(self, connection: int, frame: bytes) -> None:
        """Send the client of a connection a frame that the broker did not send; only while nothing else is sent."""
        near = next(each for each, (number, _) in self._frames.items() if number == connection)
        near.sendall(frame)

    def let_go(self) -> None:
        """Hold nothing any more, and send what waits."""
        self.holds = lambda _connection, _from_broker: False
        self._wake.send(b"\0")

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
                    if key.fileobj is not self._waker:
                        self._serve(selector, key.fileobj)  # type: ignore[arg-type]  # only sockets are registered
                    elif self._waker.recv(1):
                        self._send_held()
                    else:
                        return

    def _serve(self, selector: selectors.BaseSelector, ready: socket.socket) -> None:
        if ready is self._listener:
            near = self._listener.accept()[0]
            far = socket.create_connection(("127.0.0.1", self._broker_port))
            self._peers |= {near: far, far: near}
            self._far.add(far)
            self._frames |= {near: (self.connections, Frames()), far: (self.connections, Frames())}
            self.connections += 1
            selector.register(near, selectors.EVENT_READ)
            selector.register(far, selectors.EVENT_READ)
        elif received := self._received(ready):
            self._forward(ready, received)
        else:
            selector.unregister(ready)
            if not self.silent:
                with suppress(OSError):
                    self._peers[ready].shutdown(socket.SHUT_RDWR)

    def _forward(self, ready: socket.socket, received: bytes) -> None:
        number, frames = self._frames[ready]
        passing = b"".join(
            self.alters(number, channel, frame)
            for channel, frame in frames.feed(received)
            if self.serves(number, channel, frame)
        )
        receiver = self._peers[ready]
        if receiver in self._held or self.holds(number, ready in self._far):
            self._held.setdefault(receiver, []).append(passing)
        elif not self.silent:
            self._send(receiver, passing)

    def _send_held(self) -> None:
        held, self._held = self._held, {}
        for receiver, pieces in held.items():
            self._send(receiver, b"".join(pieces))

    @staticmethod
    def _send(receiver: socket.socket, passing: bytes) -> None:
        with suppress(OSError):  # the other side may have given up meanwhile
            receiver.sendall(passing)

    @staticmethod
    def _received(ready: socket.socket) -> bytes:
        try:
            return ready.recv(65536)
        except ConnectionError:
            return b""
