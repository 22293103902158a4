"""The last rejected samples of a registry directory: one file for each shard, for people to read.

A convenience in addition to the counts, and outside of the journal: the shard's owner writes its file about once a
second, whole and by rename. A reader takes no lock, opens regular files alone, never waits for one, and reads a bounded
part of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from busmon import files
from busmon.typed import check_types

PATTERN = "rejected_shard*.json"

MAX_BYTES = 8 << 20
"""Of one file; a full one of the longest texts takes a third of it."""


@dataclass(frozen=True, slots=True)
class RejectedSample:
    """One sample that was not counted, its texts cut to what a person reads.

    Attributes:
        at: when it was rejected, in seconds since the epoch.
        name: the metric's, as its producer has it; empty where unknown.
        labels: the first of them.
        value: as it was stated; empty where unknown.
        why: the detail of the reason.
    """

    at: float
    shard: int
    reason: str
    agent: str
    name: str
    labels: dict[str, str]
    value: str
    why: str


@dataclass(slots=True)
class Found:
    """The samples of all shards, newest first; and the files that were left out, with reasons."""

    samples: list[RejectedSample] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)


def path_of(registry_dir: Path, shard: int) -> Path:
    """Return the path of a shard's file."""
    return registry_dir / f"rejected_shard{shard}.json"


def write(path: Path, samples: Iterable[RejectedSample]) -> None:
    """Replace a shard's file, so that no reader sees half of one.

    Raises:
        OSError: there is no room; the old file stands.
    """
    files.replace(path, orjson.dumps([asdict(sample) for sample in samples]))


def read(path: Path) -> list[RejectedSample]:
    """Read a shard's file.

    Raises:
        OSError: it can't be read.
        ValueError, TypeError: it isn't as busmon writes it.
    """
    return [check_types(RejectedSample(**row)) for row in orjson.loads(files.content(path, MAX_BYTES))]


class RejectedReader:
    """The reader of all shards' files; it reads a file again only when another has taken its place. One thread."""

    def __init__(self, registry_dir: Path) -> None:
        self._directory = registry_dir
        self._files: dict[Path, tuple[tuple[int, int], list[RejectedSample] | str]] = {}

    def read(self) -> Found:
        """Read what is new, and put it together with what is known."""
        found = Found()
        self._files = {path: file for path in sorted(self._directory.glob(PATTERN)) if (file := self._file(path))}
        for path, (_, content) in self._files.items():
            if isinstance(content, str):
                found.skipped[path.name.encode(errors="replace").decode()] = content
            else:
                found.samples += content
        found.samples.sort(key=lambda sample: sample.at, reverse=True)
        return found

    def _file(self, path: Path) -> tuple[tuple[int, int], list[RejectedSample] | str] | None:
        try:
            status = path.stat()
            version = status.st_ino, status.st_mtime_ns
            known = self._files.get(path)
            return known if known and known[0] == version else (version, _content(path))
        except FileNotFoundError:
            return None
        except OSError as error:
            return (0, 0), f"it can't be read: {error.strerror}"


def newest_of_each(samples: Sequence[RejectedSample]) -> list[RejectedSample]:
    """Pick the newest sample of each reason and agent; `samples` come newest first."""
    newest: dict[tuple[str, str], RejectedSample] = {}
    for sample in samples:
        newest.setdefault((sample.reason, sample.agent), sample)
    return [*newest.values()]


def _content(path: Path) -> list[RejectedSample] | str:
    try:
        return read(path)
    except (ValueError, TypeError, RecursionError):
        return "it isn't as a process of this version writes it"
