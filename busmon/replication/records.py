"""The entries of a shard's log, as bytes and back: a line of JSON, and after it the payload of a record.

The format has a version. An entry of another version, or one that isn't busmon's, stops its reader: an entry that is
skipped by one reader and counted by another would make two truths of one log. Pure.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import orjson

from busmon.errors import LogFormatError
from busmon.typed import check_types

VERSION = 1
MAX_PART_BYTES = 1_000_000
"""Of a record's payload: RabbitMQ 4.0 takes messages of at most 16 MiB, and a reader must have time for heartbeats."""

_DIGEST_BYTES = 16


class Kind(StrEnum):
    """The kinds of records."""

    COMMIT = "commit"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Birth:
    """The first entry of a log.

    Attributes:
        log: the log's random id. A stream that was deleted and made again has another.
    """

    log: str


@dataclass(frozen=True, slots=True)
class Marker:
    """The claim of a worker to own the shard.

    Attributes:
        log: the log's id.
        epoch: counts the owners.
        owner: a random id, used for one claim only.
        host: the name of the worker's host, for people.
    """

    log: str
    epoch: int
    owner: str
    host: str


@dataclass(frozen=True, slots=True)
class Release:
    """The farewell of an owner that ends in order: it appends no further record, so any host may claim the shard.

    Attributes:
        log: the log's id.
        epoch: the owner's.
        owner: the id of the owner's claim.
        host: the name of the owner's host, for people.
    """

    log: str
    epoch: int
    owner: str
    host: str


@dataclass(frozen=True, slots=True)
class Record:
    """One part of a record; most records have one part.

    Attributes:
        log: the log's id.
        epoch: the owner's.
        owner: the id of the owner's claim.
        host: the name of the owner's host, for people.
        number: the record's; it counts up over all owners.
        before: the digest of the record before.
        at: the time of the record, in seconds since the epoch.
        kind: a commit, or a snapshot of the state after the record before.
        part: this part's number, from 0.
        parts: how many there are.
        payload: this part's; the whole payload in a record that is read.
        snapshot: the offset of the last snapshot that a reader without a state can begin with, as the owner knows it;
            -1 if there is none. It isn't part of what is counted.
    """

    log: str
    epoch: int
    owner: str
    host: str
    number: int
    before: str
    at: float
    kind: Kind
    part: int
    parts: int
    payload: bytes
    snapshot: int = -1

    @property
    def digest(self) -> str:
        """Return the digest of a whole record and of all before it."""
        told = f"{self.log} {self.epoch} {self.owner} {self.number} {self.before} {self.kind} {self.at!r}\n"
        return blake2b(told.encode() + self.payload, digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class Probe:
    """An entry without meaning: who reads it has read all before it.

    Attributes:
        log: the log's id; empty, since its writer may not know the id yet.
        nonce: tells it from other probes.
        host: the host that follows the log; empty for a program that doesn't.
        snapshot: as of `Record`; -1 if the writer doesn't know one.
        writer: a random id of the program that follows the log: two hosts may have one name.
    """

    log: str
    nonce: str
    host: str
    snapshot: int = -1
    writer: str = ""


Entry = Birth | Marker | Release | Record | Probe

_KINDS: dict[str, type[Entry]] = {
    "birth": Birth,
    "marker": Marker,
    "release": Release,
    "record": Record,
    "probe": Probe,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def make_birth(log: str) -> bytes:
    """Make the first entry of a new log, which has this id."""
    return encode(Birth(log))


def make_probe(nonce: str, host: str = "", snapshot: int = -1, writer: str = "") -> bytes:
    """Make an entry by which its reader recognizes the log's present end, and others that the host is alive."""
    return encode(Probe("", nonce, host, snapshot, writer))


def split(record: Record) -> Iterator[bytes]:
    """Yield the entries of a whole record: its parts."""
    parts = max(1, -(-len(record.payload) // MAX_PART_BYTES))
    for part in range(parts):
        start = part * MAX_PART_BYTES
        yield _encode_record(record, part, parts, record.payload[start : start + MAX_PART_BYTES])


def encode(entry: Birth | Marker | Release | Probe) -> bytes:
    """Return an entry's bytes."""
    return orjson.dumps({"v": VERSION, "entry": _NAMES[type(entry)], **asdict(entry)}) + b"\n"


def _encode_record(record: Record, part: int, parts: int, payload: bytes) -> bytes:
    head = {
        "v": VERSION,
        "entry": "record",
        "log": record.log,
        "epoch": record.epoch,
        "owner": record.owner,
        "host": record.host,
        "number": record.number,
        "before": record.before,
        "at": record.at,
        "kind": record.kind,
        "part": part,
        "parts": parts,
        "snapshot": record.snapshot,
    }
    return orjson.dumps(head) + b"\n" + payload


def decode(body: bytes) -> Entry:
    """Return the entry that these bytes are.

    Raises:
        LogFormatError: they are of another version of busmon, or not busmon's.
    """
    line, newline, payload = body.partition(b"\n")
    try:
        head: dict[str, Any] = orjson.loads(line)
        version, kind = head.pop("v"), _KINDS[head.pop("entry")]
        if version != VERSION or not newline:
            raise LogFormatError(f"an entry of the log has version {version!r}; this busmon reads version {VERSION}")
        if kind is Record:
            head |= {"payload": payload, "kind": Kind(head["kind"]), "at": float(head["at"])}
        return check_types(kind(**head))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LogFormatError("an entry of the log isn't as busmon writes it") from error
