"""The project's own RabbitMQ node, from an installed `rabbitmq-server`: started for a demo or a test run, gone with it.

Its processes form one process group, which is killed when the last holder of the node's lease lets go. The lease is a
FIFO, so the kernel lets go for a holder that dies, however it dies. An object serves one thread.
"""

import json
import os
import re
import socket
import subprocess
import time
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Self

from busmon import http
from busmon.demo.rabbitmq import LOOPBACK, Address, environment, epmd, script, write_files
from busmon.errors import BrokerUnreachableError, BusError

BOOT_TIMEOUT_SECONDS = 120.0
END_TIMEOUT_SECONDS = 10.0
COLLISION = re.compile(r"eaddrinuse|address already in use|in use by another process", re.IGNORECASE)

# Its standard input is the lease: `read` returns when someone writes a line, or when nobody holds it for writing any
# more, and the whole process group is killed. A node or an epmd that ends by itself takes the others along; an epmd
# whose port is taken ends without a word. All of them keep the reading end, so it is gone only when they are.
GUARD = """
exec 3<&0
{
    { "$1" -address 127.0.0.1 -port "$2"; echo "ERROR: epmd port $2 may be in use by another process"; kill -KILL 0; } &
    { "$3"; kill -KILL 0; } &
    read -r _ <&3
    kill -KILL 0
} &
"""


class PrivateNode:
    """A RabbitMQ node of its own; as a context manager it runs from start to stop.

    Attributes:
        directory: holds everything of the node; it stays after the stop, so that a node started again finds its queues.
        log: what the node printed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / "log"
        self._address: Address | None = None
        self._lease: int | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def address(self) -> Address:
        """The node's name and ports.

        Raises:
            BrokerUnreachableError: it was neither started nor joined.
        """
        if self._address is None:
            raise BrokerUnreachableError("the private RabbitMQ node has not been started")
        return self._address

    @property
    def amqp_port(self) -> int:
        """AMQP's port on 127.0.0.1."""
        return self.address.amqp_port

    @property
    def management_port(self) -> int:
        """The management API's port on 127.0.0.1."""
        return self.address.management_port

    @property
    def amqp_url(self) -> str:
        """The default virtual host as user guest, who may do everything."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.amqp_port}/%2F"

    @property
    def management_url(self) -> str:
        """The management API as user guest."""
        return f"http://guest:guest@{LOOPBACK}:{self.management_port}"

    def start(self) -> None:
        """Start the node and wait until it serves AMQP and the management API; after a stop, on its old ports.

        Raises:
            UserError: RabbitMQ is not installed.
            BrokerUnreachableError: it did not come up; the line says why and names the log.
        """
        retries = 0 if self._address else 2
        while True:
            try:
                return self._boot()
            except BaseException as error:
                self.stop()
                if not retries or not COLLISION.search(str(error)):
                    raise
                # Another program took one of the ports in the moment between choosing and using it.
                retries -= 1
                self._address = None

    def stop(self) -> None:
        """End every process of the node, whoever else holds its lease. A node that doesn't run is left alone.

        It kills: an orderly stop takes RabbitMQ six seconds, and what it has confirmed stands on disk either way.
        """
        if self._lease is None:
            return
        with suppress(BrokenPipeError):
            os.write(self._lease, b"\n")
        self.leave()
        deadline = time.monotonic() + END_TIMEOUT_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            time.sleep(0.01)

    kill = stop

    def restart(self) -> None:
        """Kill the node and start it again on its old ports, with the queues it had."""
        self.stop()
        self.start()

    def join(self) -> bool:
        """Take a lease of the node that another process started in this directory; return False if none runs there."""
        try:
            self._lease = self._open_lease()
        except OSError:
            return False
        self._address = Address.read(self.directory)
        return True

    def leave(self) -> None:
        """Give the lease back: a node that nobody else holds ends."""
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None

    def rabbitmqctl(self, *arguments: str) -> str:
        """Run RabbitMQ's own command line against this node and return its output.

        Raises:
            BusError: it exited with another status than 0.
        """
        done = subprocess.run(  # noqa: S603  no shell reads the arguments
            [script("rabbitmqctl"), *arguments],
            env=environment(self.directory, self.address),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
            message = f"rabbitmqctl {arguments[0]}: {said[0]}"
            raise BusError(message)
        return done.stdout

    def management(self, method: str, path: str, body: object = None) -> bytes:
        """Send one request to the management API as user guest, for example `("GET", "/api/queues")`.

        Raises:
            BrokerUnreachableError: no answer.
            BusError: it answered with a status of 400 or more.
        """
        headers = {**http.basic_authorization("guest", "guest"), "Content-Type": "application/json"}
        content = None if body is None else json.dumps(body).encode()
        try:
            answer = http.Server(LOOPBACK, self.management_port, 30).request(method, path, headers, content)
        except http.ERRORS as error:
            message = f"the private RabbitMQ node's management API: {error!r}"
            raise BrokerUnreachableError(message) from error
        if answer.status >= HTTPStatus.BAD_REQUEST:
            message = f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}"
            raise BusError(message)
        return answer.body

    def vhost(self, name: str) -> None:
        """Create a virtual host with full permissions for guest."""
        self.management("PUT", f"/api/vhosts/{name}")

    def _boot(self) -> None:
        server = script("rabbitmq-server")
        self._address = self._address or Address.choose()
        write_files(self.directory, self._address)
        path = self.directory / "lease"
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # Opened without waiting for a writer, which in turn couldn't open the FIFO before there is a reader.
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            self._lease = self._open_lease()
            os.set_blocking(reading, True)
            self._start_guard(reading, server, self._address)
        finally:
            os.close(reading)
        self._await_boot()

    def _open_lease(self) -> int:
        """Open the FIFO's writing end. It is an OSError if nobody has the reading end open: no node runs."""
        return os.open(self.directory / "lease", os.O_WRONLY | os.O_NONBLOCK)

    def is_running(self) -> bool:
        """Check whether a node runs in the directory, whoever started it."""
        with suppress(OSError):
            os.close(self._open_lease())
            return True
        return False

    def _start_guard(self, lease: int, server: Path, address: Address) -> None:
        with self.log.open("wb") as log:
            subprocess.run(  # noqa: S603  a constant script with the paths of installed programs
                ["/bin/sh", "-c", GUARD, "guard", epmd(), str(address.epmd_port), server],
                stdin=lease,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(self.directory, address),
                cwd=self.directory,
                start_new_session=True,
                check=True,
            )

    def _await_boot(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
        while not self._serves():
            if not self.is_running() or time.monotonic() > deadline:
                message = f"the private RabbitMQ node did not start: {self._reason()} (log: {self.log})"
                raise BrokerUnreachableError(message)
            time.sleep(0.05)

    def _serves(self) -> bool:
        # AMQP's listener opens last, after all plugins; the management API answers once they are whole.
        with suppress(OSError, BusError), socket.create_connection((LOOPBACK, self.amqp_port), timeout=1):
            self.management("GET", "/api/overview")
            return True
        return False

    def _reason(self) -> str:
        """Find RabbitMQ's own explanation, else the first error that it logged; later ones are its consequences."""
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        explained = [line for line in lines if line.startswith("ERROR: ")]
        errors = [re.sub(r"^.*\[error\] <[0-9.]+> *", "", line) for line in lines if "[error]" in line]
        return (explained + errors + lines[-1:] + ["it printed nothing"])[0]
