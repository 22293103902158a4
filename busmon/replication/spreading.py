"""The spreading of shards over the hosts that are alive: each host should own a share of the shards. Pure.

Every host comes to the same answer once it has heard of the same hosts. Until then two may want one shard; the log
decides between them, and nothing is counted twice.
"""

from collections.abc import Collection
from secrets import token_hex
from typing import NamedTuple

from busmon.replication.records import Birth, Entry, Probe


def choose_host(hosts: Collection[str], shard: int) -> str:
    """Return the host that should own a shard; each has at most one shard more than another."""
    ordered = sorted(hosts)
    return ordered[shard % len(ordered)]


class Hosts:
    """The hosts that were heard lately.

    Args:
        seconds: how long a host counts as alive after it was heard.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._heard_at: dict[str, float] = {}

    def note(self, host: str, now: float) -> None:
        """Note that a host was heard, at a time of the monotonic clock."""
        self._heard_at[host] = now

    def find_alive(self, now: float) -> set[str]:
        """Return the hosts that are alive, and forget the others."""
        self._heard_at = {host: at for host, at in self._heard_at.items() if now - at < self._seconds}
        return {*self._heard_at}


class _Span(NamedTuple):
    """The times at which a writer was first and last heard."""

    first: float
    last: float


class Namesakes:
    """Other hosts of this host's name: writers that use it, and aren't this program.

    Args:
        host: the name.
        seconds: how long a writer counts as alive after it was heard.
        apart: a writer counts once it was heard twice, so many seconds apart. What a killed process of this host has
            sent may arrive late, but all at once.

    Attributes:
        writer: the id of this program's own signs of life.
    """

    def __init__(self, host: str, seconds: float, apart: float) -> None:
        self.writer = token_hex(8)
        self._host = host
        self._seconds = seconds
        self._apart = apart
        self._heard: dict[str, _Span] = {}

    def note(self, entry: Entry, owner: str, now: float) -> None:
        """Note an entry, at a time of the monotonic clock; `owner` is the id of this program's claim."""
        if isinstance(entry, Birth) or entry.host != self._host:
            return
        writer = entry.writer if isinstance(entry, Probe) else entry.owner
        if writer not in {"", self.writer, owner}:
            self._heard[writer] = _Span(self._heard[writer].first if writer in self._heard else now, now)

    def find_obstacle(self, now: float) -> str:
        """Return a line that names such a host, and forget writers that are silent; empty if there is none."""
        self._heard = {writer: span for writer, span in self._heard.items() if now - span.last < self._seconds}
        if not any(span.last - span.first >= self._apart for span in self._heard.values()):
            return ""
        return f"another host of this fleet is named {self._host!r}, too: set BUSMON_HOST_NAME on one of them"
