"""A connection pauses after a read of few deliveries: pika's own transports, over a pair of sockets."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trustme
from pika import frame, spec
from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.io_services_utils import _AsyncPlaintextTransport, _AsyncSSLTransport
from pika.adapters.utils.selector_ioloop_adapter import SelectorIOServicesAdapter

from busmon.bus.consume import pausing as pauses
from busmon.bus.consume.pausing import pausing
from busmon.bus.frames.delivery import Delivery
from busmon.bus.frames.peeler import CONSUMER_TAG
from busmon.bus.frames.peeling import Entrance, _Peeler
from tests.unit.bus.frames.stated import PLAIN
from tests.unit.bus.frames.test_peeling import CONSUMED, Socketless

FOREVER_SECONDS = 1e6
PREFETCH = 1000
TURNS = 100_000
NOTHING: dict[str, Any] = dict.fromkeys({*Delivery._fields[3:]} - {"size"})


class Connected(Socketless):
    """A connection on a socket, whose reads are noted.

    Attributes:
        reads: the number of deliveries of each.
    """

    def __init__(self, mine: socket.socket) -> None:
        super().__init__(None)
        self.reads: list[int] = []
        self.loop = IOLoop()
        self.loop.activate_poller()
        self._nbio = SelectorIOServicesAdapter(self.loop)
        self._peeler = _Peeler()
        self.peel(CONSUMED, 0, pausing(self._enter, PREFETCH, self.pause))
        kind = _AsyncSSLTransport if isinstance(mine, ssl.SSLSocket) else _AsyncPlaintextTransport
        self._transport = kind(mine, self, self._nbio)

    def _enter(self, deliveries: Sequence[Delivery]) -> None:
        self.reads.append(len(deliveries))

    def enter_with_pauses(self, seconds: float) -> Entrance:
        return pausing(self._enter, PREFETCH, lambda _: self.pause(seconds))

    def data_received(self, data: bytes) -> None:
        self._proto_data_received(data)

    def connection_lost(self, _error: object) -> None:
        self._transport = None

    def turn(self) -> None:
        """Turn the loop once; it waits for nothing."""
        self.loop.add_callback_threadsafe(lambda: None)
        self.loop.poll()
        self.loop.process_timeouts()

    def read(self, reads: int) -> None:
        """Turn the loop until so many reads had deliveries."""
        for _ in range(TURNS):
            if len(self.reads) >= reads:
                return
            self.turn()
        raise AssertionError(f"{self.reads} instead of {reads} reads")


def delivered(tag: int, size: int = 10) -> bytes:
    method = frame.Method(CONSUMED, spec.Basic.Deliver(CONSUMER_TAG, tag, exchange="e", routing_key="k")).marshal()
    body = frame.Body(CONSUMED, b"x" * size).marshal()
    return b"".join((method, frame.Header(CONSUMED, size, PLAIN).marshal(), body))


def secure(theirs: socket.socket, mine: socket.socket) -> tuple[ssl.SSLSocket, ssl.SSLSocket]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    with ThreadPoolExecutor() as pool:
        accepted = pool.submit(server.wrap_socket, theirs, server_side=True)
        secured = client.wrap_socket(mine, server_hostname="localhost")
        return accepted.result(), secured


@pytest.fixture(params=["plain", "TLS"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, Connected]]:
    """The broker's socket, and a connection on the other one."""
    monkeypatch.setattr(pauses, "MOST_SECONDS", FOREVER_SECONDS)
    monkeypatch.setattr(pauses, "SHARE_OF_PREFETCH", FOREVER_SECONDS * FOREVER_SECONDS)
    theirs, mine = socket.socketpair()
    if request.param == "TLS":
        theirs, mine = secure(theirs, mine)
    mine.settimeout(0)
    connected = Connected(mine)
    try:
        yield theirs, connected
    finally:
        theirs.close()
        mine.close()
        connected.loop.deactivate_poller()
        connected.loop.close()


def test_what_arrives_in_a_pause_is_read_together(pair: tuple[socket.socket, Connected]) -> None:
    broker, connected = pair
    broker.sendall(delivered(1))
    connected.read(1)
    for tag in (2, 3, 4):
        broker.sendall(delivered(tag))
        connected.turn()
    assert connected.reads == [1]
    connected.end_pause()
    connected.read(2)
    assert sum(connected.reads) == 4


def test_a_pause_ends_by_itself(pair: tuple[socket.socket, Connected]) -> None:
    broker, connected = pair
    connected.peel(CONSUMED, 0, connected.enter_with_pauses(0.001))
    for tag in (1, 2, 3):
        broker.sendall(delivered(tag))
        connected.read(tag)


def test_a_connection_sends_in_a_pause(pair: tuple[socket.socket, Connected]) -> None:
    broker, connected = pair
    broker.sendall(delivered(1))
    connected.read(1)
    connected._transport.write(b"ack")
    while connected._transport.get_write_buffer_size():
        connected.turn()
    assert broker.recv(3) == b"ack"
    broker.sendall(delivered(2))
    connected.turn()
    assert connected.reads == [1]
    connected.end_pause()
    connected.read(2)


def test_no_pause_follows_a_read_of_many_bytes(pair: tuple[socket.socket, Connected]) -> None:
    broker, connected = pair
    large = delivered(1, 120_000)
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(broker.sendall, large + large)
        while sum(connected.reads) < 2:
            connected.turn()
            assert not connected._is_paused
        sent.result()


def test_no_pause_follows_other_frames(pair: tuple[socket.socket, Connected]) -> None:
    broker, connected = pair
    broker.sendall(frame.Heartbeat().marshal())
    while not connected.frames_received:
        connected.turn()
    assert not connected._is_paused


def test_a_connection_that_is_lost_in_a_pause_stays_lost(pair: tuple[socket.socket, Connected]) -> None:
    broker, connected = pair
    broker.sendall(delivered(1))
    connected.read(1)
    connected._transport.abort()
    connected.end_pause()
    while connected._transport is not None:
        connected.turn()
    connected.end_pause()
    assert connected.reads == [1]


@pytest.mark.parametrize(
    ("per_second", "prefetch", "seconds"),
    [
        (1, 1000, 0.01),
        (9000, 1000, 0.01),
        (20_000, 1000, 0.005),
        (60_000, 1000, None),
        (60_000, 5000, 500 / 60_000),
        (6000, 100, None),
        (600, 10, None),
        (100, 1, None),
    ],
)
def test_a_pause_lasts_until_a_tenth_of_the_prefetch_is_there(
    per_second: float, prefetch: int, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, paused = [0.0], list[float]()
    monkeypatch.setattr(pauses, "monotonic", lambda: now[0])
    enter = pausing(lambda _: None, prefetch, paused.append)
    for size in (pauses.FEW_BYTES, 300):  # many bytes are followed by no pause, and counted for the next one
        now[0] += 1 / per_second
        enter([Delivery(b"", 1, redelivered=False, **NOTHING, size=size)])
    assert paused == ([] if seconds is None else [pytest.approx(seconds)])


def test_the_time_of_handling_is_a_part_of_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    now, handling, paused = [0.0], [0.004, 20.0], list[float]()

    def handle(_: Sequence[Delivery]) -> None:
        now[0] += handling.pop(0)

    monkeypatch.setattr(pauses, "monotonic", lambda: now[0])
    enter = pausing(handle, PREFETCH, paused.append)
    for _ in range(2):
        now[0] += 1.0
        enter([Delivery(b"", 1, redelivered=False, **NOTHING, size=300)])
    assert paused == [pytest.approx(0.006)]
