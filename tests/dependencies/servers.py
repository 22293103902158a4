"""Real servers to depend on: PostgreSQL and Redis from the system's packages, on private ports, and some that hang.

A server's files lie in a directory of its own, and it is ended with the block. PostgreSQL refuses to run as root; a
test that runs as root starts it as nobody.
"""

import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from busmon.demo.rabbitmq import free_ports
from tests.certificates import Authority

PASSWORD = "s3cret pass/word"  # noqa: S105 - of servers that live for a test
DEADLINE_SECONDS = 30.0
_NOBODY: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)[0]


def certificates(directory: Path) -> tuple[Path, Path, Path]:
    """A certificate authority's certificate, and a certificate for localhost by name alone with its key."""
    authority = Authority(directory)
    certificate, key = authority.issue("server", "localhost")
    key.chmod(0o600)
    return authority.ca, certificate, key


class Server:
    """A server's process, in a directory that is its user's own."""

    def __init__(self, name: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"busmon-{name}-"))
        self.port = free_port()
        self.ca, self._certificate, self._key = certificates(self.directory)
        self._user = _NOBODY if os.geteuid() == 0 else {}
        for path in (self.directory, *self.directory.iterdir()):
            if self._user:
                shutil.chown(path, self._user["user"], self._user["group"])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self.directory)

    def start(self) -> None:
        """Run it, until it answers."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.directory, stdout=log, stderr=log, start_new_session=True, **self._user
            )
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < deadline, "it didn't start in time"
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and each connection to it; one that doesn't end in time is killed with its children."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stopped like a machine that hangs, with its sockets open."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(self._process.pid, signal.SIGCONT)

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError


class Postgres(Server):
    """PostgreSQL with one user, `app`, who needs a password, and TLS for who wants it."""

    def __init__(self) -> None:
        super().__init__("postgres")
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self._cluster = self.directory / "cluster"
        password = self.directory / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", self._cluster, "-U", "app", "-A", "scram-sha-256", "--pwfile", password, "--no-sync")

    def url(
        self, database: str = "postgres", password: str = PASSWORD, host: str = "127.0.0.1", query: str = ""
    ) -> str:
        return f"postgresql://app:{quote(password, safe='')}@{host}:{self.port}/{database}{query}"

    def execute(self, statement: str) -> None:
        """Run one statement."""
        self._run("psql", "-d", self.url(), "-c", statement)

    def _command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.directory,
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": self._certificate,
            "ssl_key_file": self._key,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._programs / "postgres"), "-D", str(self._cluster), *options]

    def _answers(self) -> bool:
        asked = subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        )
        return asked.returncode == 0

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(part) for part in (self._programs / program, *arguments)]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=False, **self._user)
        assert done.returncode == 0, done.stderr


class Redis(Server):
    """Redis with a password, and with TLS on a port of its own."""

    def __init__(self) -> None:
        super().__init__("redis")
        self.tls_port = free_port()

    def url(self, password: str = PASSWORD, scheme: str = "redis", host: str = "127.0.0.1", query: str = "") -> str:
        port = self.tls_port if scheme == "rediss" else self.port
        return f"{scheme}://:{quote(password, safe='')}@{host}:{port}/0{query}"

    def execute(self, *command: str) -> None:
        """Run one command."""
        done = self._cli(*command)
        assert done.returncode == 0, done.stderr

    def _command(self) -> Sequence[str]:
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "requirepass": PASSWORD,
            "save": "",
            "dir": self.directory,
            "tls-port": self.tls_port,
            "tls-cert-file": self._certificate,
            "tls-key-file": self._key,
            "tls-ca-cert-file": self.ca,
            "tls-auth-clients": "no",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        return ["redis-server", *options]

    def _answers(self) -> bool:
        return self._cli("PING").stdout == "PONG\n"

    def _cli(self, *command: str) -> "subprocess.CompletedProcess[str]":
        cli = ["redis-cli", "-p", str(self.port), "--no-auth-warning", "-a", PASSWORD]
        return subprocess.run([*cli, *command], capture_output=True, text=True, check=False)


@contextmanager
def silent_server() -> Iterator[int]:
    """The port of a socket that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def web_server(status: int = 200, identity: tuple[Path, Path] | None = None) -> Iterator[tuple[int, list[str]]]:
    """The port of a web server that answers with this status, and the heads of the requests that it got."""
    heads: list[str] = []

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heads.append(f"{self.requestline}\n{self.headers}")
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with _Web(("127.0.0.1", 0), Page) as server:
        if identity:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*identity)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port, heads
        server.shutdown()
        thread.join()


class _Web(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away, or doesn't trust the certificate, is what some tests are about."""
