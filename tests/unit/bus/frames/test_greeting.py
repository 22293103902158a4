"""Whatever answers at the broker's address is named by what it sent, on both connections and for each scheme."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from pika.adapters.select_connection import IOLoop

from busmon.bus.connect.causes import Cause, LossCause
from busmon.bus.connect.dialling import Addresses, open_blocking
from busmon.bus.connect.link import Link
from busmon.bus.frames.greeting import CLOSED, describe, is_amqp
from busmon.errors import BrokerUnreachableError

HTTP = "an HTTP server answers there, with 'HTTP/1.1 400 Bad Request': AMQP is another port, 5672 by default"
ANSWERS = [
    (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", HTTP),
    (b"\x15\x03\x01\x00\x02\x02\x46", "it speaks TLS: use amqps:// there"),
    (b"\x16\x03\x03\x00\x7a", "it speaks TLS: use amqps:// there"),
    (b"AMQP\x00\x01\x00\x00", "it speaks AMQP 1.0.0, and busmon speaks AMQP 0-9-1"),
    (b"AMQP\x03\x01\x00\x00", "it speaks AMQP with SASL 1.0.0, and busmon speaks AMQP 0-9-1"),
    (b"AMQP\x01\x01\x00\x0a", "it speaks AMQP 1.0.10, and busmon speaks AMQP 0-9-1"),
    (
        b"AMQP\x00\x00\x09\x01",
        "it answers with AMQP's own header, as a broker does that did not get it whole: is a proxy between?",
    ),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "an SSH server answers there, with 'SSH-2.0-OpenSSH_9.2'"),
    (b"-ERR unknown\x1b[2J\r\n", r"the server there does not speak AMQP: it sent '-ERR unknown\x1b[2J'"),
    (b"\r\n", r"the server there does not speak AMQP: it sent '\r\n'"),
    (b"", CLOSED),
]


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Serve one answer to each connection, and close it; gives the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listener.accept()[0] as connection:
                        # All of it, 1,800 bytes of a TLS hello: the kernel resets a connection with bytes unread.
                        connection.recv(65_536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
def test_what_answers_is_named(answer: bytes, said: str) -> None:
    with server(answer) as port:
        url = f"amqp://user:hunter2@127.0.0.1:{port}/"
        with pytest.raises(BrokerUnreachableError) as caught:
            open_blocking(url, "test")
        assert str(caught.value) == f"RabbitMQ at 127.0.0.1:{port}: {said}"
        assert lost(url) == Cause(LossCause.UNREACHABLE, said)


def lost(url: str) -> Cause:
    """Connect on a loop; give the cause why that failed."""
    causes: list[Cause] = []
    loop = IOLoop()

    def note(cause: Cause, _wait: float | None) -> None:
        causes.append(cause)
        loop.stop()

    link = Link(Addresses(url, "test"), loop, opened=lambda _: None, lost=note, blocked=lambda _: None)
    link.open()
    loop.start()
    link.retire()
    loop.close()
    return causes[0]


@pytest.mark.parametrize("answer", [b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_tls_spoken_to_what_speaks_none_says_what_to_use(answer: bytes) -> None:
    with server(answer) as port:
        url = f"amqps://user:hunter2@127.0.0.1:{port}/"
        said = "the server does not speak TLS: use amqp://, or the port for TLS ("
        with pytest.raises(BrokerUnreachableError) as caught:
            open_blocking(url, "test")
        assert str(caught.value).startswith(f"RabbitMQ at 127.0.0.1:{port}: {said}")
        assert lost(url).detail.startswith(said)


@pytest.mark.parametrize("first", [b"", b"\x01", b"\x01\x00", b"\x01\x00\x00\x00\x00\x01\xff"])
def test_a_broker_is_known_by_its_first_bytes(first: bytes) -> None:
    assert is_amqp(first)


def test_a_long_answer_is_cut() -> None:
    assert len(describe(b"x" * 10_000)) < 200
