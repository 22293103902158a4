"""The places of label values, the same for the whole fleet and after every restart.

`places.jsonl` in the registry directory is a log, read on from where it was read last: `[family]` gives a family its
number, `[family, label, value, since, user, agent]` gives a value a place and an owner, and with null for `since` the
place is given back; `lost` behind it says that somebody else needed it, however lately the value was seen. The log is
written under the admission's lock, and rewritten when most of it is history. One object per shard and process.
"""

import os
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from busmon import files
from busmon.errors import MAX_DETAIL_CHARACTERS, RegistryError, RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission.contest import HeldPlace
from busmon.registry.admission.principal import NOBODY, Principal
from busmon.registry.storage import disk

FILE_NAME = "places.jsonl"
REWRITE_BYTES = 64 * 1024

Line = list[str | float | None]

LOST = "lost"
MAX_LOST = 5_000
"""Lost values that are remembered, since their series leave each shard within seconds; 2 MB in a shard."""

_principal = lru_cache(maxsize=1024)(Principal)
"""Makes a principal, or returns an equal one: of 100,000 places of one agent, each would take 118 bytes more."""

_NONE: Mapping[str, float] = {}
_NO_USERS: Mapping[str, int] = {}
_CLOSED = -1


class Place(NamedTuple):
    """One value of one label of one family."""

    family: str
    label: str
    value: str


class Label(NamedTuple):
    """The values of one label that have a place.

    Attributes:
        taken: those that were given one, and since when.
        stated: those that need none, as the catalogue enumerates them.
        is_full: no other value can have one.
    """

    name: str
    taken: Mapping[str, float]
    stated: frozenset[str]
    is_full: bool


def no_place(labels: Sequence[str]) -> RejectedError:
    """Return the refusal of a gauge's sample whose values of these labels have no place."""
    detail = f"no place is left for a new value of the label {', '.join(labels)}"
    return RejectedError(SampleReason.LABEL_BUDGET, detail[:MAX_DETAIL_CHARACTERS])


class Places:
    """One reader's view of the log.

    Attributes:
        numbers: each family's, in the order in which they first had a series.
        returns: changes whenever a place was given back.
        lost: the last values that had to give up their places, and have none by now; the keys alone count.
    """

    def __init__(self, registry_dir: Path) -> None:
        self._path = registry_dir / FILE_NAME
        self._name = str(self._path)
        self._descriptor = _CLOSED
        self.returns = 0
        self._owed: list[Line] = []
        self._changes: list[Line] | None = None
        self._forget()
        self.refresh()

    def _forget(self) -> None:
        self.numbers: dict[str, int] = {}
        self._taken: dict[tuple[str, str], dict[str, float]] = {}
        self._owners: dict[Place, Principal] = {}
        self._users: dict[tuple[str, str], Counter[str]] = {}
        self.lost: OrderedDict[Place, None] = OrderedDict()
        self._inode = 0
        self._size = 0
        self._read_bytes = 0
        self._lines = 0

    def find_taken(self, family: str, label: str) -> Mapping[str, float]:
        """Return the label's values that have a place, and since when, in seconds since the epoch."""
        return self._taken.get((family, label), _NONE)

    def later_than(self, now: float) -> Iterator[Place]:
        """Yield the places that were given later than now."""
        for (family, label), taken in self._taken.items():
            for value, since in taken.items():
                if since > now:
                    yield Place(family, label, value)

    def find_held(self, family: str, label: str) -> dict[str, HeldPlace]:
        """Return the label's values that have a place, since when, and their principals."""
        return {
            value: HeldPlace(since, self._owners.get(Place(family, label, value), NOBODY))
            for value, since in self.find_taken(family, label).items()
        }

    def users(self, family: str, label: str) -> Mapping[str, int]:
        """Count the label's places that each user has; those of an earlier version, and of nobody, are left out."""
        return self._users.get((family, label), _NO_USERS)

    @property
    def owners(self) -> Mapping[Place, Principal]:
        """The principal of each place, without the places of an earlier version and of busmon itself."""
        return self._owners

    def refresh(self) -> bool:
        """Read what has been written since; whether there was anything.

        Raises:
            RegistryError: the log isn't what busmon wrote.
        """
        try:
            status = os.stat(self._name)  # noqa: PTH116 - for each new series, and a Path takes twice as long
        except FileNotFoundError:
            return False
        if status.st_ino == self._inode and status.st_size == self._read_bytes:
            return False
        if status.st_ino != self._inode:
            self._reopen()
        self._read()
        return True

    def close(self) -> None:
        """Close the log."""
        if self._descriptor != _CLOSED:
            os.close(self._descriptor)
            self._descriptor = _CLOSED

    # -- other hosts --------------------------------------------------------------------------------------------------

    def keep_changes(self) -> None:
        """Keep what is written from here on, for `take_changes`."""
        self._changes = []

    def take_changes(self) -> list[Line]:
        """Return the lines that this object has written since the last call, without the families' numbers."""
        changes, self._changes = self._changes or [], [] if self._changes is not None else None
        return changes

    def dump(self, families: Collection[str]) -> list[Line]:
        """Return the lines that give these families their places."""
        return [line for line in self._valid_lines() if len(line) > 1 and line[0] in families]

    def take_over(self, lines: list[Line]) -> None:
        """Write lines that another host has written; the admission's lock is held, after a refresh.

        Raises:
            OSError: the log can't be written.
        """
        changes, self._changes = self._changes, None
        try:
            self._append(lines)
        finally:
            self._changes = changes
        self._apply(lines)

    # -- writing, with the admission's lock held and after a refresh ----------------------------------------------

    def take(self, places: Iterable[Place], at: float, owner: Principal = NOBODY) -> None:
        """Give places to these values, whatever their budget is. On a full disk `pay` does it later."""
        lines: list[Line] = [[*place, at, *owner] for place in places]
        self._apply(lines)
        self._owed += lines
        with suppress(OSError):
            self.pay()

    @property
    def owes(self) -> bool:
        """Return whether there is something to `pay`."""
        return bool(self._owed)

    def pay(self) -> None:
        """Write what `take` couldn't.

        Raises:
            OSError: the log still can't be written.
        """
        self._append(self._owed)
        self._owed = []

    def number(self, family: str) -> int:
        """Return the family's number, given to it now if it has none.

        Raises:
            OSError: the log can't be written.
        """
        if family not in self.numbers:
            self._append([[family]])
            self._apply([[family]])
        return self.numbers[family]

    def give_back(self, places: Iterable[Place], *, are_lost: bool = False) -> None:
        """Take the places away from these values; `are_lost` if somebody else needs them.

        Raises:
            OSError: the log can't be written; they keep their places.
        """
        lines: list[Line] = [[*place, None, *([LOST] if are_lost else [])] for place in places]
        self._append(lines)
        self._apply(lines)
        live = len(self.numbers) + sum(map(len, self._taken.values())) + len(self.lost)
        if self._read_bytes > REWRITE_BYTES and self._lines > 2 * live:
            self._rewrite()

    def _append(self, lines: list[Line]) -> None:
        if not lines:
            return
        if self._descriptor == _CLOSED:
            self._open()
        content = _join_lines(lines)
        end = self._read_bytes + len(content)
        disk.write(self._descriptor, content, self._read_bytes)
        if self._size > end:
            os.ftruncate(self._descriptor, end)  # what a dead writer left of a line
        self._read_bytes = self._size = end
        if self._changes is not None:
            self._changes += [line for line in lines if len(line) > 1]

    def _rewrite(self) -> None:
        """Replace the log with one of the valid lines; a reader of the old log sees another file in its place."""
        files.replace(self._path, _join_lines(self._valid_lines()))
        self.refresh()

    def _valid_lines(self) -> list[Line]:
        lines: list[Line] = [[family] for family in self.numbers]
        for key, taken in self._taken.items():
            owners = [self._owners.get(Place(*key, value), NOBODY) for value in taken]
            lines += [[*key, *item, *owner] for item, owner in zip(taken.items(), owners, strict=True)]
        return lines + [[*place, None, LOST] for place in self.lost]

    # -- reading --------------------------------------------------------------------------------------------------

    def _reopen(self) -> None:
        """Read another log from its start. The old one was held open, so that its number on the disk was its own."""
        self.close()
        self._forget()
        self.returns += 1
        self._apply(self._owed)
        self._open()

    def _open(self) -> None:
        self._descriptor = files.open_file(self._path, os.O_RDWR | os.O_CREAT)
        self._inode = os.fstat(self._descriptor).st_ino

    def _read(self) -> None:
        self._size = os.fstat(self._descriptor).st_size
        added = os.pread(self._descriptor, max(0, self._size - self._read_bytes), self._read_bytes)
        whole = added[: added.rfind(b"\n") + 1]
        try:
            self._apply(map(orjson.loads, whole.splitlines()))
        except (ValueError, TypeError, KeyError) as error:
            raise RegistryError(f"{self._path}: expected a place on each line, as busmon writes it") from error
        self._read_bytes += len(whole)

    def _apply(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._take_line(*line)

    def _take_line(self, family: Any, label: Any = "", value: Any = "", since: Any = None, *owner: Any) -> None:
        self._lines += 1
        if not label:
            self.numbers.setdefault(family, len(self.numbers))
        elif since is not None:
            place = Place(family, label, value)
            self._taken.setdefault((family, label), {})[value] = since
            self.lost.pop(place, None)
            if any(owner):  # an earlier version noted none
                self._disown(place)
                self._owners[place] = _principal(*owner)
                self._users.setdefault((family, label), Counter())[self._owners[place].user] += 1
        else:
            self.returns += 1
            place = Place(family, label, value)
            self._taken.get((family, label), {}).pop(value, None)
            self._disown(place)
            if owner:
                self._lose(place)

    def _lose(self, place: Place) -> None:
        """Remember a lost value as the last one, and forget the first beyond the bound."""
        self.lost[place] = None
        self.lost.move_to_end(place)
        if len(self.lost) > MAX_LOST:
            self.lost.popitem(last=False)

    def _disown(self, place: Place) -> None:
        """Forget whose the place is."""
        if (owner := self._owners.pop(place, None)) is not None:
            users = self._users[place.family, place.label]
            users[owner.user] -= 1
            if not users[owner.user]:
                del users[owner.user]


def _join_lines(lines: Iterable[object]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)
