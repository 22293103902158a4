"""The exporter's process: binds the address, serves until it is told to stop, then finishes what it was answering.

One process, one event loop. SIGTERM and SIGINT end it in order, with status 0; to an orphan of a supervisor that is
gone, SIGTERM comes by the lifeline that the two shared.
"""

import asyncio
import resource
import signal
import socket
import sys
from functools import partial
from ipaddress import ip_address

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from busmon import status
from busmon.bus.connect.connection import certificates
from busmon.exporter.access.access import Access
from busmon.exporter.access.gate import Gate
from busmon.exporter.checks.runner import Checks
from busmon.exporter.server.acceptor import Acceptor
from busmon.exporter.server.app import App
from busmon.exporter.server.connection import Connection
from busmon.exporter.server.connection_limit import ConnectionLimit
from busmon.exporter.server.memory import give_back_large_blocks
from busmon.exporter.server.turns import Turns
from busmon.exporter.server.waiting_room import WaitingRoom
from busmon.settings import Settings, limits
from busmon.settings.listening import open_listener
from busmon.settings.private import require_private

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 3
"""How long answers that are under way may take once the exporter is to stop."""

MAX_CONNECTIONS = 512
"""Beyond that, one that asks nothing makes room, or others wait; fewer where the system grants few descriptors."""

MAX_WAITING = 2048
"""Beyond that, one of the address with most is closed, or all wait in the system's queue; fewer as above."""

_SPARE_DESCRIPTORS = 128
"""For the shards' files: without, no scrape could be made, however few ask."""

_FEWEST_CONNECTIONS = 16

_SWITCH_SECONDS = 0.0005
"""How long the thread that reads the files may keep the loop waiting: each system call of the loop lets it in.

With Python's 5 ms a crowd's connections are served at a third of this rate while scrapes are read.
"""


class Server(uvicorn.Server):
    """uvicorn's, with connections and an acceptor of its own.

    Args:
        app: answers the requests.
        access: the terms of each connection.
        most: how many connections there may be.
        most_waiting: how many may wait for a place.
    """

    def __init__(self, app: ASGIApp, access: Access, most: int, most_waiting: int) -> None:
        config = uvicorn.Config(
            app,
            loop="asyncio",
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            # The app logs what fails; what uvicorn warns of is the garbage that port scanners send.
            log_level="critical",
            access_log=False,
            server_header=False,
            # A client could state another address with each request, and have the turns of many.
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
        super().__init__(config)
        self._access = access
        self._most = most
        self._most_waiting = most_waiting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections."""
        now = asyncio.get_running_loop().time
        limit, room, turns = ConnectionLimit(self._most, now), WaitingRoom(self._most_waiting, now), Turns()

        def make(address: str) -> Connection:
            state = self.lifespan.state
            return Connection(
                self._access, limit, turns, address, config=self.config, server_state=self.server_state, app_state=state
            )

        note_refusal = partial(self._access.note_cut, "crowded")
        acceptors = [Acceptor(listener, limit, room, make, note_refusal) for listener in sockets or ()]
        self.servers = acceptors  # type: ignore[assignment]  # uvicorn closes them, as asyncio's own
        self.started = True


def run(settings: Settings) -> int:
    """Serve `settings.registry_dir` on `settings.listen`; returns the process's exit status.

    Raises:
        ListenError: the address can't be had.
        WebFileError: the web configuration file, or one that it names, is wrong.
        SettingsError: others can write to the registry directory, or a check can't be made as it is set up.
    """
    limits.require(len([*settings.registry_dir.glob("shard*.journal")]))
    give_back_large_blocks()
    sys.setswitchinterval(_SWITCH_SECONDS)
    require_private(settings.registry_dir, f"registry_dir from {settings.origin('registry_dir')}", own=False)
    access = Access(settings.web_config_file, certificates(settings.amqp_url).items())
    with open_listener(settings.listen) as listener, Checks.of(settings) as checks:
        _tell_who_may_read(listener, access)
        address = _address(listener)
        app = App(settings, address, checks.findings, access)
        server = Server(Gate(app.starlette(), access), access, *_grant_connections())
        _stop_on_signals(server)
        _reload_on_hangup(app, server)
        directory, scheme = str(settings.registry_dir), access.scheme
        log.info("server.started", url=_url(listener, scheme), address=address, registry_dir=directory, scheme=scheme)
        _tell_of_no_shard(settings)
        server.run(sockets=[listener])
    log.info("server.stopped")
    return 0


def _grant_connections() -> tuple[int, int]:
    """Raise the limit of descriptors if allowed; return the number of connections that it leaves, and of newcomers."""
    granted, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + MAX_WAITING + _SPARE_DESCRIPTORS
    if granted < wanted:
        granted = min(wanted, most) if most != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, most))
    left = max(2 * _FEWEST_CONNECTIONS, granted - _SPARE_DESCRIPTORS)
    connections = min(MAX_CONNECTIONS, left // 2)
    return connections, min(MAX_WAITING, left - connections)


def _tell_who_may_read(listener: socket.socket, access: Access) -> None:
    if ip_address(listener.getsockname()[0]).is_loopback:
        return
    terms = access.terms
    if terms.authentication and not terms.context:
        log.warning("server.passwords_in_the_clear", next="set tls_server_config, too; see docs/security.md")
    elif not terms.closed:
        log.warning("server.open_to_the_network", next="set web_config_file; see docs/security.md")


def _tell_of_no_shard(settings: Settings) -> None:
    """Warn of a directory in which no fleet has counted yet, unless one has just started there."""
    found = status.read(settings.registry_dir)
    if found.shardless is not None and found.supervisor is None:
        advice = (
            f"name the fleet's directory (registry_dir is from {settings.origin('registry_dir')}), or start a fleet"
        )
        log.warning("server.no_shard", registry_dir=str(settings.registry_dir), next=advice)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(listener: socket.socket, scheme: str) -> str:
    """Return what to open in a browser on this host."""
    host = ip_address(listener.getsockname()[0])
    named = "localhost" if host.is_unspecified else f"[{host}]" if host.version == 6 else str(host)  # noqa: PLR2004 - IP's
    return f"{scheme}://{named}:{listener.getsockname()[1]}/"


def _stop_on_signals(server: uvicorn.Server) -> None:
    """Stop in order on a signal that comes before uvicorn listens for it, or that uvicorn raises again once stopped."""

    def stop(*_: object) -> None:
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


def _reload_on_hangup(app: App, server: uvicorn.Server) -> None:
    """Reload the catalogue on SIGHUP, unless SIGHUP means that the terminal of this process was closed."""
    on_terminal = sys.stderr.isatty()

    def hang_up(*_: object) -> None:
        if on_terminal and not sys.stderr.isatty():
            server.should_exit = True
        else:
            app.reload()

    signal.signal(signal.SIGHUP, hang_up)
