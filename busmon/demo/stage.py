"""The demo's stage: a directory, a broker, a topology and a port of its own, each removed when its block ends.

A broker that the user named is the user's: the demo makes objects with names of its own there and deletes them in the
end, so that it neither takes a fleet's envelopes nor leaves any. Main thread of one process.
"""

import os
import secrets
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from operator import methodcaller
from pathlib import Path
from typing import Any

import busmon
from busmon import files
from busmon.bus.connect.connection import translating
from busmon.bus.connect.session import Session
from busmon.bus.topology import topology
from busmon.bus.topology.declare import ensure
from busmon.bus.topology.topology import Topology
from busmon.demo.broker import PrivateNode
from busmon.errors import BusError
from busmon.settings import Settings, mask

Say = Callable[[str], None]

CHECKOUT = Path(busmon.__file__).resolve().parent.parent
_PREFIX = "busmon-demo-"
_YOUNG_SECONDS = 60.0
"""A directory that is younger may be one that its demo has not locked yet."""

_DISK = Path("/var/tmp")  # noqa: S108 - mkdtemp makes a directory of mode 0700 in it; /tmp may be in memory


@contextmanager
def directory() -> Iterator[Path]:
    """Make a fresh directory: in the checkout's `.state`, or on a disk for temporary files.

    In a path with a space RabbitMQ 3.10 finds no free disk space, and tells Prometheus of 'NaN', which it doesn't take.
    """
    in_checkout = (CHECKOUT / "pyproject.toml").exists() and " " not in str(CHECKOUT)
    state = CHECKOUT / ".state" if in_checkout else _DISK
    state.mkdir(exist_ok=True)
    remove_left(state)
    fresh = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=state))
    lock = os.open(fresh, os.O_RDONLY)
    try:
        files.try_lock(lock)
        yield fresh
    finally:
        os.close(lock)
        shutil.rmtree(fresh)
        if in_checkout:
            with suppress(OSError):  # Not empty: somebody else's state is there, too.
                state.rmdir()


def remove_left(state: Path) -> None:
    """Remove the directories that killed demos of this user left, unless their node still runs."""
    for path in state.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another demo has removed it meanwhile
            found = path.lstat()
            is_old = stat.S_ISDIR(found.st_mode) and time.time() - found.st_mtime > _YOUNG_SECONDS
            if is_old and found.st_uid == os.geteuid() and not _is_in_use(path):
                shutil.rmtree(path, ignore_errors=True)


def _is_in_use(path: Path) -> bool:
    lock = os.open(path, os.O_RDONLY)
    try:
        return not files.try_lock(lock) or PrivateNode(path / "rabbitmq").is_running()
    finally:
        os.close(lock)


@contextmanager
def broker(settings: Settings, fresh: Path, say: Say) -> Iterator[Settings]:
    """Provide settings with a broker that has the topology: the user's if one is named, else a private node.

    Raises:
        UserError: RabbitMQ is not installed, or the broker can't give what the topology asks for.
        BusError: there is no broker, or this user may not declare.
    """
    if settings.origin("amqp_url") == "default":
        with _own_broker(settings, fresh, say) as changed:
            yield changed
        return
    say(f"using RabbitMQ at {mask(settings.amqp_url)}")
    if settings.origin("exchange") != "default":
        declare(settings, say)
        yield settings
        return
    own = override(settings, exchange=f"{settings.exchange}-demo-{secrets.token_hex(3)}", replication="off")
    wanted = declare(own, say)
    try:
        yield own
    finally:
        say(f"deleting {own.exchange!r} and its queues")
        _delete(wanted, own.amqp_url)


@contextmanager
def _own_broker(settings: Settings, fresh: Path, say: Say) -> Iterator[Settings]:
    say("starting a private RabbitMQ node")
    with PrivateNode(fresh / "rabbitmq") as node:
        say(f"RabbitMQ is at {node.amqp_url}, its pages at {node.management_url}")
        own = override(settings, amqp_url=node.amqp_url, management_url=node.management_url, replication="off")
        declare(own, say)
        try:
            yield own
        finally:
            say("stopping RabbitMQ")


def override(settings: Settings, **values: Any) -> Settings:
    """Return the settings with these values, as if the demo's user had set them."""
    return replace(settings, **values, origins={**settings.origins, **dict.fromkeys(values, "the demo")})


def declare(settings: Settings, say: Say) -> Topology:
    """Declare what is missing on the settings' broker."""
    wanted = topology.load(settings.topology, settings.exchange, settings.replication)
    ensure(wanted, settings.amqp_url)
    say(f"declared exchange {wanted.exchange!r} and {wanted.shards} shard queues")
    return wanted


def free_address(settings: Settings, say: Say) -> str:
    """Choose the exporter's address: that of the settings, with another port if that port is 0 or taken."""
    host, _, port = settings.listen.rpartition(":")
    if int(port) and not _is_taken(host, int(port)):
        return settings.listen
    with socket.create_server((host, 0)) as listener:
        address = f"{host}:{listener.getsockname()[1]}"
    if int(port):
        say(f"{settings.listen} is taken, so the exporter serves at {address}")
    return address


def _is_taken(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError:
        return True
    return False


def _delete(wanted: Topology, amqp_url: str) -> None:
    """Delete the topology's objects; a broker that is gone by now keeps them, and nobody can help it."""
    with suppress(BusError), Session(amqp_url, "busmon demo") as session, translating():
        for queue in wanted.queues:
            session.call(methodcaller("queue_delete", queue.name))
        for exchange in wanted.exchanges:
            session.call(methodcaller("exchange_delete", exchange.name))
