"""What a batch shows of itself: latencies, sizes, verdicts, gathered while it is folded and added to it in bulk.

They are part of the batch's own commit, so they are as exact as what they count. One thread.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from busmon.bus.delivery import Delivery
from busmon.registry.fold import Fold
from busmon.registry.ledger import Verdict
from busmon.status import ShardStatus
from busmon.wire.envelope import Envelope

_NANOSECONDS = 1e9
_MILLISECONDS = 1e3
_COUNTED_AS: Mapping[Verdict, str] = {
    Verdict.DUPLICATE: "busmon_envelopes_deduplicated_total",
    Verdict.UNIDENTIFIED: "busmon_envelopes_unidentified_total",
    Verdict.UNVERIFIABLE: "busmon_envelopes_unverifiable_total",
}


class Measured:
    """The measures of one open batch.

    Attributes:
        verdicts: the ledger's on its envelopes, but for `NEW`.
        refused: its bodies that were no envelopes, by reason.

    Args:
        commit_seconds: what the batch before it took to commit; None if there was none.
    """

    def __init__(self, commit_seconds: float | None = None) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.refused: Counter[str] = Counter()
        self._commit_seconds = [] if commit_seconds is None else [commit_seconds]
        self._latencies: list[float] = []
        self._sizes: list[int] = []
        self._heard: dict[str, float] = {}
        self._skewed: Counter[str] = Counter()

    def take(self, envelope: Envelope, delivery: Delivery, now: float) -> None:
        """Measure an envelope that was consumed at `now`, in seconds since the epoch."""
        self._sizes.append(len(delivery.body))
        self._heard[envelope.agent] = now
        published_at = _published_at(delivery.properties.headers) or envelope.ts
        if published_at is None:
            return
        if published_at > now:
            self._skewed[envelope.agent] += 1
            published_at = now
        self._latencies.append(now - published_at)

    def describe(self, fold: Fold, status: ShardStatus) -> None:
        """Add the measures to the batch."""
        shard = (str(status.shard),)
        if self._sizes:
            fold.count("busmon_envelopes_consumed_total", shard, len(self._sizes))
            fold.observe("message_size_bytes", ("json",), self._sizes)
            fold.observe("message_latency_seconds", (status.queue,), self._latencies)
        for verdict, amount in self.verdicts.items():
            fold.count(_COUNTED_AS[verdict], shard, amount)
        for reason, amount in self.refused.items():
            fold.count("busmon_envelopes_rejected_total", (reason,), amount)
        for agent, amount in self._skewed.items():
            fold.count("busmon_clock_skew_total", (agent,), amount)
        for agent, heard_at in self._heard.items():
            fold.set("busmon_last_envelope_timestamp_seconds", (agent,), heard_at, heard_at)
        if self._commit_seconds:
            fold.observe("busmon_commit_duration_seconds", (), self._commit_seconds)


def _published_at(headers: Mapping[str, Any] | None) -> float | None:
    """When the publish itself happened, in seconds since the epoch: the publisher's stamp, else the broker's."""
    if not headers:
        return None
    stamp = headers.get("published_at_ns")
    if (type(stamp) is int or type(stamp) is float) and stamp > 0:
        return stamp / _NANOSECONDS
    stamp = headers.get("timestamp_in_ms")
    if (type(stamp) is int or type(stamp) is float) and stamp > 0:
        return stamp / _MILLISECONDS
    return None
