"""Rejections: the samples of one source that are not counted, by reason, and the last of them.

A decoder notes what it refuses in its part's rejections, and the fold notes what it refuses in rejections of its own;
both end in the shard's `RejectionLog`. Noting a sample is one append, however large the sample is; nothing is
copied or formatted before the fold keeps it. Pure.
"""

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from busmon.errors import RejectedError

KEPT = 5
"""Samples kept of each reason: of one source in one body, and of one agent in a shard."""

NO_LABELS: Mapping[str, str] = MappingProxyType({})


class Stated(NamedTuple):
    """A rejected sample, by as much of it as is known.

    Attributes:
        name: the metric's, as its producer has it; empty where unknown.
        labels: names to values.
        value: a number or a text as the producer wrote it; None where unknown.
    """

    name: Any = ""
    labels: Any = NO_LABELS
    value: Any = None


class Rejections:
    """The rejected samples of one source in one body.

    Attributes:
        counts: by reason.
        last: what was wrong and what was stated, by reason; at most `KEPT` of each.
    """

    __slots__ = ("counts", "last")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.last: dict[str, deque[tuple[str, Any]]] = {}

    def add(self, error: RejectedError, sample: Any = None, amount: int = 1) -> None:
        """Note a sample.

        Args:
            error: the reason and the detail.
            sample: a `Stated`, a `Point`, or a sample as the wire format has it; None where nothing of it is known.
            amount: samples that `sample` stands for.
        """
        reason, detail = error.args
        if reason in self.counts:
            self.counts[reason] += amount
            self.last[reason].append((detail, sample))
        else:
            self.counts[reason] = amount
            self.last[reason] = deque([(detail, sample)], KEPT)

    def show(self, reason: str) -> str:
        """Word the reason and the detail of the last sample that was rejected for it."""
        return f"{reason}: {self.last[reason][-1][0]}"

    def clear(self) -> None:
        """Forget all of them."""
        self.counts.clear()
        self.last.clear()
