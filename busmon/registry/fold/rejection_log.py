"""The rejected samples of one shard: how many by reason and agent, and the last of each.

Both halves of a rejection meet here, whether a decoder or the fold refused the sample. The counts are part of the open
batch, exact like all others. The last samples are a convenience: `commit` makes those of the batch known, `rollback`
forgets them, and a crash may lose the last second. Bounded: `KEPT` of a reason and agent in a batch and in all,
`MAX_PAIRS` of these, of which the one longest unheard gives way, and `MAX_CHARACTERS` of a text. One thread.
"""

from collections import Counter, deque
from collections.abc import Mapping
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, cast

from busmon.errors import MAX_DETAIL_CHARACTERS
from busmon.registry.storage.rejected_samples import RejectedSample, read, write
from busmon.wire.envelope import Observed, Point
from busmon.wire.rejections import KEPT, Rejections, Stated

MAX_PAIRS = 100
"""Reasons and agents."""

MAX_CHARACTERS = 120
"""Of a name or a value."""

MAX_LABELS = 8
MAX_LABEL_CHARACTERS = 60
"""Of a label's name and of its value."""

_FEW = 5
_FEW_CHARACTERS = 20
"""Observations or buckets that a value is shown with, and the characters of each."""

Pair = tuple[str, str]
Told = tuple[float, str, dict[str, str], str, str]
"""When, name, labels, value and why: a sample that may not be among the last of its batch, so made at little cost."""


class RejectionLog:
    """The rejected samples of one shard.

    Attributes:
        counts: of the open batch, by reason and agent.
    """

    def __init__(self, shard: int) -> None:
        self.counts: Counter[Pair] = Counter()
        self._shard = shard
        self._open: dict[Pair, deque[Told]] = {}
        self._known: dict[Pair, deque[RejectedSample]] = {}
        self._fresh: list[RejectedSample] = []
        self._is_written = True

    def take(self, agent: str, rejections: Rejections, now: float) -> None:
        """Count what a decoder or the fold has rejected of one source, and keep the last samples of it."""
        for reason, amount in rejections.counts.items():
            pair = reason, agent
            self.counts[pair] += amount
            last = self._open.get(pair)
            if last is None:
                last = _room_for(self._open, pair)
            for detail, sample in rejections.last[reason]:
                name, labels, value = _extract_stated(sample)
                last.append((now, _text(name), _labels(labels), _text(value), detail[:MAX_DETAIL_CHARACTERS]))

    def commit(self) -> None:
        """Keep the last samples of the batch, which is counted."""
        self._fresh = []
        for (reason, agent), told in self._open.items():
            known = self._known.pop((reason, agent), None)
            last = self._known[reason, agent] = _room_for(self._known, (reason, agent)) if known is None else known
            samples = [
                RejectedSample(at, self._shard, reason, agent, name, labels, value, why)
                for at, name, labels, value, why in told
            ]
            last.extend(samples)
            self._fresh += samples
        self._is_written = self._is_written and not self._open
        self._open = {}

    def rollback(self) -> None:
        """Forget the open batch."""
        self.counts.clear()
        self._open = {}

    def fresh(self) -> list[RejectedSample]:
        """Return the samples that the last commit made known, once."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def load(self, path: Path) -> None:
        """Take over what an owner before has written, if it can be read."""
        try:
            samples = read(path)
        except (OSError, ValueError, TypeError, RecursionError):
            return
        for sample in samples[-MAX_PAIRS * KEPT :]:
            pair = sample.reason, sample.agent
            last = self._known.get(pair)
            (_room_for(self._known, pair) if last is None else last).append(sample)

    def write(self, path: Path) -> None:
        """Replace the file at `path`, if there are samples that it doesn't have.

        Raises:
            OSError: there is no room; the old file stands, and the next call tries again.
        """
        if not self._is_written:
            write(path, chain.from_iterable(self._known.values()))
            self._is_written = True


Kept = TypeVar("Kept")


def _room_for(last: dict[Pair, deque[Kept]], pair: Pair) -> deque[Kept]:
    """Add a pair, in the place of the one longest unheard if there are as many as may be."""
    if len(last) >= MAX_PAIRS:
        del last[next(iter(last))]
    room = last[pair] = deque(maxlen=KEPT)
    return room


# -- what a sample states, as text ------------------------------------------------------------------------------------


def _extract_stated(sample: Any) -> Stated:
    """Extract the known parts of a sample, in whichever form it was refused."""
    kind = type(sample)
    if kind is dict:
        value = sample.get("value")
        if value is None:
            value = sample.get("values", sample.get("buckets"))
        return Stated(sample.get("name"), sample.get("labels"), value)
    if kind is Stated:
        return cast("Stated", sample)
    if kind is Point:
        return Stated(sample.name, sample.labels, sample.value)
    return _of_row(*sample) if kind is tuple else Stated()


def _of_row(table: Mapping[str, Any], row: Any) -> Stated:
    names = table.get("labels")
    if not isinstance(row, list) or not row:
        return Stated(table.get("name"), value=row)
    labels = dict(zip(names, row[:-1], strict=False)) if isinstance(names, list) else {}
    return Stated(table.get("name"), labels, row[-1])


def _labels(labels: Any) -> dict[str, str]:
    if not labels or not isinstance(labels, dict | MappingProxyType):
        return {}
    first = islice(labels.items(), MAX_LABELS)
    return {_text(name, MAX_LABEL_CHARACTERS): _text(value, MAX_LABEL_CHARACTERS) for name, value in first}


def _text(value: Any, characters: int = MAX_CHARACTERS) -> str:
    """Word a value for a person, without looking at more of it than is shown."""
    if type(value) is str and len(value) <= characters and value.isascii():
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return _several([_scalar(each) for each in value[:_FEW]], len(value), characters)
    if isinstance(value, dict):
        members = islice(value.items(), _FEW)
        return _several([f"{_scalar(key)}: {_scalar(each)}" for key, each in members], len(value), characters)
    if isinstance(value, Observed):
        return f"count {value.count}, sum {value.sum}"
    return _cut(_scalar(value, characters + 1), characters)


def _scalar(value: Any, characters: int = _FEW_CHARACTERS) -> str:
    """Word a value that holds no others; a list or object may be nested as deep as a body is long, and is left out."""
    if isinstance(value, str):
        return value[:characters].encode(errors="replace").decode()
    return "…" if isinstance(value, list | dict) else str(value)


def _several(shown: list[str], length: int, characters: int) -> str:
    return _cut(", ".join(shown) + (", …" if length > len(shown) else ""), characters)


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"
