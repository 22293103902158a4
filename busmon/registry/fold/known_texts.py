"""The bodies whose texts between the numbers are known: such a body is folded without being parsed.

`scanning.pyx` reads them, `learning.py` makes texts known, and here it is decided which bodies are tried. A body with
another text, or with a value that the ordinary way looks at twice, is parsed. Where most bodies have new texts, none is
scanned for a while. Without the compiled scanner every body is parsed. One thread.
"""

from collections.abc import Sequence

from busmon import compiled
from busmon.registry.fold.routes import Routes
from busmon.wire.envelope import Envelope

IS_SCANNING = compiled.find("busmon.registry.fold.scanning") is not None
"""The compiled scanner is there, and may be used."""

if IS_SCANNING:
    from busmon.registry.fold.learning import Learner

_LEARNING_BYTES = 600
"""Learning a text takes as long as parsing and folding so many bytes of a body."""

_MOST_CREDIT = 64 * 1024 * 1024
"""So many bytes' worth of learning may be done before as many were parsed: two thirds of a second of CPU."""

_LOOK_AFTER = 256
"""After so many bodies that were scanned in vain it is decided whether to scan the next ones."""

_FORGET_AFTER = 20_000
"""Bodies that teach nothing, since there is no room, until all texts are forgotten: others may be in use now."""

_SHORTEST_REST, _LONGEST_REST = 256, 16_384
"""So many bodies are parsed at once where scanning doesn't pay; twice as many each time."""

_LEARNING_REST = 4096
"""So many are parsed where most bodies teach a text that may come again: to learn one costs as much as a body."""


class KnownTexts:
    """The texts of one shard's bodies."""

    def __init__(self, routes: Routes) -> None:
        self._learner = Learner(routes) if IS_SCANNING else None
        self._unlearned = 0
        self._credit = _MOST_CREDIT
        self._read = self._missed = self._taught = self._rest = 0
        self._next_rest = _SHORTEST_REST

    def clear(self) -> None:
        """Forget all texts: series were removed, or may have another meaning."""
        self._unlearned = 0
        if self._learner is not None:
            self._learner.clear()

    def read(self, bodies: Sequence[bytes]) -> list[Envelope | None]:
        """Read bodies whose texts are all known; None in the place of each one that has to be parsed."""
        read: list[Envelope | None] = []
        learner = self._learner
        while learner is not None and len(read) < len(bodies):
            if resting := min(self._rest, len(bodies) - len(read)):
                self._rest -= resting
                read += [None] * resting
                continue
            before = len(read)
            learner.scanner.read(bodies, read)
            self._read += len(read) - before
            if len(read) < len(bodies):
                self._miss(learner, bodies[len(read)])
                read.append(None)
        return read or [None] * len(bodies)

    def _miss(self, learner: "Learner", body: bytes) -> None:
        """Learn from a body that couldn't be read, and decide whether to scan the next ones."""
        if learner.passes_over(body):
            return
        self._credit = min(self._credit + len(body), _MOST_CREDIT)
        if learner.is_full:
            self._unlearned += 1
            if self._unlearned == _FORGET_AFTER:
                self.clear()
        elif self._credit > 0:
            self._taught += self._learn(learner, body)
        self._missed += 1
        if self._missed == _LOOK_AFTER:
            self._decide()

    def _learn(self, learner: "Learner", body: bytes) -> bool:
        """Learn on credit: whatever publishers state, or make forget, learning takes no longer than parsing in all."""
        known = len(learner.scanner)
        is_useful = learner.learn(body)
        self._credit -= _LEARNING_BYTES * (len(learner.scanner) - known + 1)
        return is_useful

    def _decide(self) -> None:
        """Decide whether the next bodies are scanned: always if most were read, and some if most taught a text."""
        if self._read > self._missed:
            self._next_rest = _SHORTEST_REST
        elif self._taught > self._missed // 2:
            self._rest = _LEARNING_REST
        else:
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, _LONGEST_REST)
        self._read = self._missed = self._taught = 0
