"""The exporter's process: binds the address, serves until it is told to stop, then finishes what it was answering.

One process, one event loop. SIGTERM and SIGINT end it in order, with status 0; to an orphan of a supervisor that is
gone, SIGTERM comes by the lifeline that the two shared.
"""

import asyncio
import os
import signal
import socket
from ipaddress import ip_address

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from busmon.errors import ListenError
from busmon.exporter.app import App
from busmon.exporter.memory import give_back_large_blocks
from busmon.settings import Settings

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 3
"""How long answers that are under way may take once the exporter is to stop."""

_BACKLOG = 128

MAX_CONNECTIONS = 256
"""Beyond that, one that asks nothing makes room: without descriptors the shards' files can't be read either."""

REQUEST_SECONDS = 10.0
"""How long a connection may stay without a request under way, or with half of one, at least; at most twice as long."""


class _Connection(H11Protocol):
    """A connection that can't be held for nothing; uvicorn itself limits only those that wait between requests."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._clock = self.loop.call_later(REQUEST_SECONDS, self._look, None)
        if len(self.connections) > MAX_CONNECTIONS:
            others = (each for each in self.connections if isinstance(each, _Connection) and each is not self)
            next((each for each in others if each.asks_nothing), self).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clock.cancel()
        super().connection_lost(exc)

    @property
    def asks_nothing(self) -> bool:
        """Whether no request is under way on it, but for half of one."""
        return self.cycle is None or self.cycle.response_complete

    def _look(self, before: object) -> None:
        """Close the connection if nothing was asked since the last look, and nothing is being answered."""
        if self.cycle is before and self.asks_nothing:
            self.transport.abort()
            return
        self._clock = self.loop.call_later(REQUEST_SECONDS, self._look, self.cycle)


def run(settings: Settings) -> int:
    """Serve `settings.registry_dir` on `settings.listen`; returns the process's exit status.

    Raises:
        ListenError: the address can't be had.
    """
    give_back_large_blocks()
    with _bound(settings.listen) as listener:
        address = _address(listener)
        server = uvicorn.Server(_config(App(settings, address)))
        _stop_on_signals(server)
        log.info("server.started", address=address, registry_dir=str(settings.registry_dir))
        server.run(sockets=[listener])
    log.info("server.stopped")
    return 0


def _config(app: App) -> uvicorn.Config:
    return uvicorn.Config(
        app.starlette(),
        loop="asyncio",
        http=_Connection,
        ws="none",
        lifespan="off",
        log_config=None,
        # The app logs what fails; what uvicorn warns of is the garbage that port scanners send.
        log_level="critical",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ListenError(f"can't listen on {listen}: {reason}; choose another with --listen HOST:PORT") from error
    if not ip_address(listener.getsockname()[0]).is_loopback:
        log.warning("server.open_to_the_network", listen=listen)
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Stop in order on a signal that comes before uvicorn listens for it, or that uvicorn raises again once stopped."""

    def stop(*_: object) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
