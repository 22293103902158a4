"""The delay that a crowd of one address causes to another address's scrapes, and the memory that it takes.

    .venv/bin/python benchmarks/crowd.py [--only NAME,…] [--seconds 8] [--clients 900,2000] [--series 100000] [--tls]

A real exporter serves a page of 17 MB, that is of so many series. For each crowd it starts again. The crowd's clients
connect from 127.0.0.1, in a process of their own, and each that is closed connects again. Meanwhile a scraper at
127.0.0.2 asks for the page as Prometheus does, compressed, on a new connection each time, and waits 0.2 s after each
answer. Memory is what the exporter has at most more than before the crowd. "nobody" is a run without a crowd. The exit
status is 1 where a scrape took a second more than the median of "nobody", or memory grew by more than 300 MB.

With `--tls` the exporter has a certificate, and every connection of the crowd and of the scraper begins with a
handshake. A crowd that reads slowly then reads a record at a time, of 16 KiB.
"""

import argparse
import hashlib
import itertools
import multiprocessing
import os
import select
import socket
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path

import entry
from exporter import METRIC, Exporter, answer_seconds, running

from busmon import extras
from busmon.catalogue.catalogue import Catalogue
from busmon.registry.admission.families import Families
from busmon.registry.shard.shard import Shard
from busmon.wire.envelope import Envelope

CROWD_HOST, SCRAPER_HOST = "127.0.0.1", "127.0.0.2"
MAX_MORE_SECONDS, MAX_MORE_BYTES = 1.0, 300e6
PAUSE_SECONDS = 0.2
CONNECT_SECONDS = 1.0
ROWS, BATCH = 100, 10
VALUE_CHARACTERS = 105
READ_BYTES = 1 << 20

_START = multiprocessing.get_context("spawn")


def request(path: str, *headers: str) -> bytes:
    """Make a request."""
    return "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: x", *headers, "")).encode()


CLOSE, COMPRESSED = "Connection: close", "Accept-Encoding: gzip"
SLOW_RESOURCES = ("/overview", "/", "/health", "/ready", "/overview/stream")


def ask_names(number: int) -> bytes:
    """Ask for the large family by a set of names that nobody else asks for."""
    return request(f"/metrics?name[]={METRIC}&name[]=other_{number}")


@dataclass(frozen=True, slots=True)
class Kind:
    """The part of each client in a crowd.

    Attributes:
        ask: makes its request, of which each has a number.
        bytes: that it reads at once; none if it doesn't read.
        leaves: whether it leaves when it has asked.
        pause_seconds: after each pass over all clients.
    """

    ask: Callable[[int], bytes]
    bytes: int = READ_BYTES
    leaves: bool = False
    pause_seconds: float = 0.0


def _in_turn(*requests: bytes) -> Callable[[int], bytes]:
    return lambda number: requests[number % len(requests)]


CROWDS = {
    "asks and doesn't read": Kind(_in_turn(request("/metrics")), 0),
    "asks compressed and doesn't read": Kind(_in_turn(request("/metrics", COMPRESSED)), 0),
    "reads slowly": Kind(_in_turn(request("/metrics")), 4096, pause_seconds=0.01),
    "asks again": Kind(_in_turn(request("/metrics"))),
    "asks again compressed": Kind(_in_turn(request("/metrics", COMPRESSED))),
    "asks again on new connections": Kind(_in_turn(request("/metrics", COMPRESSED, CLOSE))),
    "asks both in turn": Kind(_in_turn(request("/metrics"), request("/metrics", COMPRESSED))),
    "asks for different names": Kind(ask_names),
    "asks for names and doesn't read": Kind(ask_names, 0),
    "asks slow resources": Kind(_in_turn(*map(request, SLOW_RESOURCES))),
    "asks for health": Kind(_in_turn(request("/-/healthy"))),
    "asks for health on new connections": Kind(_in_turn(request("/-/healthy", CLOSE))),
    "connects and doesn't ask": Kind(_in_turn(b"")),
    "asks half": Kind(_in_turn(b"GET /metrics HTTP/1.1\r\nHalf-A")),
    "asks and leaves": Kind(_in_turn(request("/metrics")), leaves=True, pause_seconds=0.25),
}


class Client:
    """A connection of the crowd.

    Args:
        port: the exporter's.
        context: of TLS, if it is used.

    Attributes:
        is_ready: whether the client may ask, which it may not before a handshake.
    """

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(0)
        with suppress(BlockingIOError):
            self.socket.connect((CROWD_HOST, port))
        self.is_ready = context is None
        self._context = context
        self._head = b""
        self._left: int | None = None

    def shake_hands(self) -> int:
        """Go on with the handshake of an open connection; return the event to wait for."""
        if self._context and not isinstance(self.socket, ssl.SSLSocket):
            self.socket = self._context.wrap_socket(
                self.socket, do_handshake_on_connect=False, server_hostname=CROWD_HOST
            )
        if isinstance(self.socket, ssl.SSLSocket):
            try:
                self.socket.do_handshake()
            except ssl.SSLWantReadError:
                return select.EPOLLIN
        self.is_ready = True
        return select.EPOLLOUT

    def read(self, size: int) -> bytes:
        """Read at most so much of what has come; the whole of a TLS record, since epoll doesn't know its rest."""
        part = self.socket.recv(size)
        rest = self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0
        return part + self.socket.recv(rest) if rest else part

    def has_answer(self, part: bytes) -> bool:
        """Take a part of an answer; return whether it was the last."""
        if self._left is None:
            self._head += part
            head, end, part = self._head.partition(b"\r\n\r\n")
            if not end:
                return False
            _, _, length = head.lower().partition(b"content-length: ")
            self._head, self._left = b"", int(length.split(b"\r\n")[0] or 1 << 60)  # a stream has none
        self._left -= len(part)
        if self._left > 0:
            return False
        self._left = None
        return True


class Crowd:
    """The clients of one kind; they use TLS if there is a context."""

    def __init__(self, kind: Kind, port: int, context: ssl.SSLContext | None) -> None:
        self._kind = kind
        self._port = port
        self._context = context
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._numbers = itertools.count()

    def run(self, count: int, over: Event) -> None:
        """Let so many clients go on until it is over."""
        for _ in range(count):
            self._connect()
        while not over.is_set():
            for number, events in self._epoll.poll(0.1):
                client = self._clients[number]
                try:
                    is_open = self._serve(client, events)
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    continue
                except OSError:
                    is_open = False
                if not is_open:
                    del self._clients[number]
                    client.socket.close()
                    self._connect()
            time.sleep(self._kind.pause_seconds)

    def _connect(self) -> None:
        client = Client(self._port, self._context)
        self._clients[client.socket.fileno()] = client
        self._epoll.register(client.socket, select.EPOLLOUT)

    def _serve(self, client: Client, events: int) -> bool:
        """Send or read what can be; return whether the connection stays open."""
        if not client.is_ready:
            event = client.shake_hands()
            self._epoll.modify(client.socket, event)
            return True
        if events & select.EPOLLOUT:
            client.socket.send(self._kind.ask(next(self._numbers)))
            # The end of a connection is told without a wish for it.
            self._epoll.modify(client.socket, select.EPOLLIN if self._kind.bytes else 0)
            return not self._kind.leaves
        if not self._kind.bytes:
            return False
        part = client.read(self._kind.bytes)
        if client.has_answer(part):
            self._epoll.modify(client.socket, select.EPOLLOUT)
        return bool(part)


def crowd(name: str, port: int, count: int, ca: Path | None, over: Event) -> None:
    """Run a crowd, in its process."""
    Crowd(CROWDS[name], port, trust(ca)).run(count, over)


def trust(ca: Path | None) -> ssl.SSLContext | None:
    """Make the context of a client that verifies a server by this CA's certificate."""
    return ssl.create_default_context(cafile=ca) if ca else None


def write_series(directory: Path, count: int) -> None:
    """Write a shard's files with so many series."""
    shard = Shard.open(directory, 0, Families(directory, Catalogue.load(), 10), fsync=False)
    now = time.time()
    for number, start in enumerate(range(0, count, ROWS)):
        rows = [["exchange", _value(each), 1] for each in range(start, min(start + ROWS, count))]
        table = {"name": METRIC, "labels": ["exchange", "routing_key"], "rows": rows}
        shard.fold.envelope(Envelope("source", "agent", None, [], [table]), now)
        if number % BATCH == BATCH - 1:
            shard.commit(now)
    shard.commit(now)
    shard.close()


def _value(number: int) -> str:
    """Make a label value; what is random in it takes its part of the compressed page."""
    return f"task.{hashlib.sha256(str(number).encode()).hexdigest()[:20]}".ljust(VALUE_CHARACTERS, "x")


class Memory:
    """The most memory that a process had during a block, in bytes."""

    def __init__(self, pid: int) -> None:
        self._path = Path(f"/proc/{pid}/statm")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.most = self._read()

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch it during a block."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.most = max(self.most, self._read())

    def _read(self) -> int:
        return int(self._path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Seen:
    """The cost of a crowd.

    Attributes:
        seconds: of each scrape.
        more_bytes: of the exporter, at most.
    """

    seconds: Sequence[float]
    more_bytes: int

    def is_held(self, usual_seconds: float) -> bool:
        """Tell if every bound was held."""
        return max(self.seconds) < usual_seconds + MAX_MORE_SECONDS and self.more_bytes < MAX_MORE_BYTES

    def row(self, name: str, clients: int, usual_seconds: float) -> str:
        """Word a row of the table."""
        return (
            f"| {name} | {clients:,} | {statistics.median(self.seconds):.2f} s | {max(self.seconds):.2f} s "
            f"| +{self.more_bytes / 1e6:.0f} MB | {'yes' if self.is_held(usual_seconds) else 'no'} |"
        )


def measure(exporter: Exporter, name: str, clients: int, seconds: float, ca: Path | None) -> Seen:
    """Scrape for so long while the crowd does its part; without clients there is none."""
    context = trust(ca)
    for _ in range(3):
        answer_seconds(exporter.port, SCRAPER_HOST, context)
    memory, over, took = Memory(exporter.pid), _START.Event(), list[float]()
    process = _START.Process(target=crowd, args=(name, exporter.port, clients, ca, over))
    with memory.watch():
        if clients:
            process.start()
            time.sleep(CONNECT_SECONDS)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            took.append(answer_seconds(exporter.port, SCRAPER_HOST, context))
            time.sleep(PAUSE_SECONDS)
    over.set()
    if clients:
        process.join()
    return Seen(took, memory.most - memory.before)


def certify(directory: Path) -> tuple[Path, Path]:
    """Write a web configuration file with a certificate; return its path, and that of the CA's certificate."""
    entry.require_library("trustme")
    from tests.certificates import Authority  # noqa: PLC0415 - of the group `dev`, which only this needs

    authority = Authority(directory)
    certificate, key = authority.for_this_host()
    web_file = directory / "web.yml"
    web_file.write_text(f"tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n")
    return web_file, authority.ca


def _parse_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in CROWDS]:
        message = f"{', '.join(unknown)}: expected some of {', '.join(CROWDS)}"
        raise argparse.ArgumentTypeError(message)
    return names


def _parse_numbers(text: str) -> list[int]:
    return [*map(int, text.split(","))]


def main() -> int:
    """Measure and print; the exit status is 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_parse_names, default=[*CROWDS], metavar="NAME,…", help="(default: all)")
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each crowd is there")
    parser.add_argument("--clients", type=_parse_numbers, default=[900, 2000], metavar="NUMBER,…")
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--tls", action="store_true", help="connect by TLS, also the scraper")
    args = parser.parse_args()
    extras.require("fleet", "the exporter")
    with tempfile.TemporaryDirectory(prefix="busmon-crowd-") as scratch:
        directory, options, ca = Path(scratch, "registry"), list[str](), None
        directory.mkdir(mode=0o700)
        if args.tls:
            web_file, ca = certify(Path(scratch, "certificates"))
            options = ["--web-config-file", str(web_file)]
        write_series(directory, args.series)
        with running(str(directory), *options) as exporter:
            nobody = measure(exporter, "nobody", 0, args.seconds, ca)
        usual = statistics.median(nobody.seconds)
        print("| crowd | clients | scrape, median | worst | memory | held |")
        print("| --- | --: | --: | --: | --: | --- |")
        print(nobody.row("nobody", 0, usual), flush=True)
        are_held = []
        for name, clients in itertools.product(args.only, args.clients):
            with running(str(directory), *options) as exporter:
                seen = measure(exporter, name, clients, args.seconds, ca)
            are_held.append(seen.is_held(usual))
            print(seen.row(name, clients, usual), flush=True)
    return 0 if all(are_held) else 1


if __name__ == "__main__":
    entry.run(main)
