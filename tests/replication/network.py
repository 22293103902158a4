"""Faults of the network between a host and RabbitMQ, from an entry of a log on that the test chooses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from busmon.errors import LogFormatError
from busmon.replication.records import Entry, Kind, Record, decode
from tests.patience import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from busmon.demo.broker import PrivateNode
    from tests.broker.proxy import Proxy
    from tests.fleet.replicated import Host

_METHOD, _BODY = 1, 3  # the types of frames
_HEAD_BYTES = 7
_NAME = re.compile(rb"busmon log (\d+) on (first|second)")


def through(vhost: Any, node: PrivateNode, proxy: Proxy) -> Any:
    """The virtual host as programs reach it through the proxy."""
    return vhost._replace(amqp_url=vhost.amqp_url.replace(f":{node.amqp_port}/", f":{proxy.port}/"))


def entry_of(frame: bytes) -> Entry | None:
    """The entry of a log that begins in this frame; a large one goes on in the next frames."""
    if frame[0] != _BODY:
        return None
    try:
        return decode(frame[_HEAD_BYTES:-1])
    except LogFormatError:
        return None


class LogNames:
    """The connections to logs that pass a proxy, by number: each says its shard and host when it is opened."""

    def __init__(self) -> None:
        self._names: dict[int, tuple[int, str]] = {}

    def note(self, connection: int, frame: bytes) -> None:
        """Note the name of a connection in the frame that has it."""
        if frame[0] == _METHOD and (found := _NAME.search(frame)):
            self._names[connection] = int(found[1]), found[2].decode()

    def find(self, connection: int) -> tuple[int, str] | None:
        """The shard and host of a connection to a log."""
        return self._names.get(connection)


class Cut:
    """Lets everything pass up to an entry that is chosen, and nothing of its connection from there on.

    It serves a proxy from the hosts' start on, since connections say their names once.

    Attributes:
        shard: the shard whose log is cut off from its host; -1 before.
    """

    def __init__(self) -> None:
        self.shard = -1
        self._host = ""
        self._chooses: Callable[[Entry], bool] | None = None
        self._logs = LogNames()
        self._lost: set[int] = set()

    def arm(self, chooses: Callable[[Entry], bool]) -> None:
        """Cut at the next such entry. Its owner appends it before anybody reads it, so it is cut at its owner's."""
        self._host, self._chooses = "", chooses

    @property
    def is_made(self) -> bool:
        """Tell if a host is cut off since the last `arm`."""
        return bool(self._host)

    def choose_host(self, fleet: Sequence[Host]) -> Sequence[Host]:
        """Wait for the cut; return the hosts, the one that is cut off first."""
        wait_until(lambda: self.is_made, "the entry to cut at")
        return sorted(fleet, key=lambda host: host.name != self._host)

    def __call__(self, connection: int, _channel: int, frame: bytes) -> bool:
        """Tell if a frame passes, as `Proxy.serves`."""
        self._logs.note(connection, frame)
        if self._chooses is not None and (log := self._logs.find(connection)) is not None:
            entry = entry_of(frame)
            if entry is not None and self._chooses(entry):
                self._chooses = None
                self._lost.add(connection)
                self.shard, self._host = log
        return connection not in self._lost


class OneWay:
    """Holds what one side sends, from a record of the host on: its log's answers, or the record itself.

    Args:
        proxy: before the host, from its start on.
        holds: tells if what is sent waits, by whether the connection is a log's, and whether the broker sends it.
    """

    def __init__(self, proxy: Proxy, holds: Callable[[bool, bool], bool]) -> None:
        self.is_armed = False
        self._proxy = proxy
        self._logs = LogNames()
        self._holds = holds
        proxy.serves = self._note

    @property
    def is_broken(self) -> bool:
        """Tell if a record has come since the network was armed."""
        return not self.is_armed

    def _note(self, connection: int, _channel: int, frame: bytes) -> bool:
        self._logs.note(connection, frame)
        if self.is_armed:
            entry = entry_of(frame)
            if isinstance(entry, Record) and entry.kind is Kind.COMMIT and b"source-" in entry.payload:
                self._proxy.holds = self._hold
                self.is_armed = False
        return True

    def _hold(self, connection: int, from_broker: bool) -> bool:  # noqa: FBT001 - as of `Proxy.holds`
        return self._holds(self._logs.find(connection) is not None, from_broker)
