"""The texts of bodies whose series are known: a body of such texts is folded without being parsed.

`wire/cuts.py` says how a body is cut, and why its parts mean alone what they mean together. Here each text leads to the
series that it states. A text is learned once its series exists, so each check and budget was passed the ordinary way.
A body with another text, or with a value that the ordinary way looks at twice, is parsed. What is learned is bounded.
Where most bodies have new texts, none is cut for a while. One thread.
"""

from typing import Any

from busmon.bare import bare
from busmon.catalogue.family import COUNTER, GAUGE
from busmon.registry.fold.routes import Routes
from busmon.registry.series.columns import Column
from busmon.wire import cuts
from busmon.wire.cuts import END, NUMBERS, TS, VALUE, Author, Named
from busmon.wire.envelope import Cut, Envelope
from busmon.wire.floats import LARGEST
from busmon.wire.json_v1 import FORMAT
from busmon.wire.times import is_time

MIN_BODY_BYTES = 1000
"""Measured: a body of fewer than some ten samples is parsed as fast."""

MAX_BODY_BYTES = 1_000_000
"""A longer body may have more samples than are taken from one."""

MAX_TEXTS = 20_000
"""Of one shard; each takes some 300 bytes."""

MAX_TEXT_BYTES = 512

_LOOK_AFTER = 256
"""After so many bodies that were cut in vain it is decided whether to cut the next ones."""

_SHORTEST_REST, _LONGEST_REST = 256, 16_384
"""So many bodies are parsed at once where cutting doesn't pay; twice as many each time."""

Target = tuple[str, Any, tuple[float, ...], int]
"""The parts that a family's series share: type, increments or shares, bounds, and the offset of the sum."""

Place = tuple[Target, int]
"""A series: its family's target, and its first cell."""


class KnownTexts:
    """The texts of one shard's bodies."""

    def __init__(self, routes: Routes) -> None:
        self._ways = routes.ways.entries
        self._heads: dict[bytes, Author] = {}
        self._first: dict[bytes, Place] = {}
        self._others: dict[bytes, Place] = {}
        self._targets: dict[tuple[str, tuple[float, ...]], Target] = {}
        self._unlearned = 0
        self._read = self._missed = self._rest = 0
        self._next_rest = _SHORTEST_REST

    def clear(self) -> None:
        """Forget all texts: series were removed, or may have another meaning."""
        for texts in (self._heads, self._first, self._others, self._targets):
            texts.clear()
        self._unlearned = 0

    def read(self, body: bytes) -> Envelope | None:
        """Read a body whose texts are all known; None if it has to be parsed."""
        if not MIN_BODY_BYTES <= len(body) <= MAX_BODY_BYTES:
            return None
        if self._rest:
            self._rest -= 1
            return None
        head, mark, rest = body.partition(TS)
        ts, _, rest = rest.partition(b",")
        first, *pieces = rest.split(VALUE)
        return self._read_pieces(head, ts, first, pieces, body) if mark and pieces else None

    def _read_pieces(self, head: bytes, ts: bytes, first: bytes, pieces: list[bytes], body: bytes) -> Envelope | None:
        numbers, _, texts = zip(*[piece.partition(b"}") for piece in pieces], strict=True)
        others = texts[:-1]
        try:
            source, agent = self._heads[head]
            places = [self._first[first], *map(self._others.__getitem__, others)]
            at, *values = cuts.parse_numbers((ts, *numbers))
        except (KeyError, cuts.UncutError):
            self._miss(head, first, others)
            return None
        if texts[-1] != END or not is_time(at) or not _are_usual(places, values):
            return None
        self._read += 1
        cut = bare(Cut, (body, places, values))
        return bare(Envelope, (source, agent, at, [], [], False, (), None, FORMAT, cut, False))

    def _miss(self, head: bytes, first: bytes, texts: tuple[bytes, ...]) -> None:
        """Learn from a body that couldn't be read, and decide whether to cut the next ones."""
        self._missed += 1
        if self._missed == _LOOK_AFTER:
            if self._read > self._missed:
                self._next_rest = _SHORTEST_REST
            else:
                self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
            self._read = self._missed = 0
        if len(self._heads) + len(self._first) + len(self._others) >= MAX_TEXTS:
            self._unlearned += 1
            if self._unlearned < MAX_TEXTS:
                return
            self.clear()
        self._learn(head, first, texts)

    def _learn(self, head: bytes, first: bytes, texts: tuple[bytes, ...]) -> None:
        """Learn the texts up to the first one that states no known series."""
        if len(head) > MAX_TEXT_BYTES:
            return
        if head not in self._heads:
            author = cuts.read_head(head + TS)
            if author is None:
                return
            self._heads[head] = author
        for text, known in ((first, self._first), *((text, self._others) for text in texts)):
            if text in known:
                continue
            named = cuts.read_sample(text, is_first=known is self._first) if len(text) <= MAX_TEXT_BYTES else None
            place = None if named is None else self._find(named)
            if place is None:
                return
            known[text] = place

    def _find(self, named: Named) -> Place | None:
        """Find the series of a sample by the way that the ordinary fold took for such samples."""
        name, labels, type_ = named
        if type(labels) is not dict:
            return None
        try:
            cells, column, family_type, bounds, total = self._ways[name, *labels]
            cell = cells[*labels.values()]
        except (KeyError, TypeError):
            return None
        return (self._find_target(column, family_type, bounds, total), cell) if type_ in {None, family_type} else None

    def _find_target(self, column: Column, type_: str, bounds: tuple[float, ...], total: int) -> Target:
        """Return the one target that equals these parts, since each place of a family refers to it."""
        changed = column.shares if type_ == GAUGE else column.increments
        return self._targets.setdefault((column.name, bounds), (type_, changed, bounds, total))


def _are_usual(places: list[Place], values: list[Any]) -> bool:
    """Return whether the ordinary way accepts each value at once."""
    if not NUMBERS.issuperset(map(type, values)):
        return False
    least, most = min(values), max(values)
    if 0 <= least <= most <= LARGEST:
        return True
    counted = (value for ((type_, _, _, _), _), value in zip(places, values, strict=True) if type_ == COUNTER)
    return -LARGEST <= least <= most <= LARGEST and min(counted, default=0) >= 0
