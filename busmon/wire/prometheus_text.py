"""A pushed snapshot in Prometheus' text exposition (0.0.4, 1.0.0) or OpenMetrics: what a Pushgateway is sent.

Counters, histograms and summaries in it are totals; a `_created` line says since when. A summary's quantiles are left
out, since quantiles don't add up. A line or series that can't be counted costs itself; a body without any good line
is no envelope. Never raises anything but `EnvelopeError`. Pure.
"""

import re

from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.wire.arrival import Arrival, name_of
from busmon.wire.body import lines, text
from busmon.wire.envelope import Envelope, Part
from busmon.wire.exposition_names import unescaping
from busmon.wire.exposition_snapshot import Snapshot
from busmon.wire.json_v1 import UNKNOWN_AGENT

OPENMETRICS_TYPE = "application/openmetrics-text"

_TEXT_TYPE = "text/plain"
_VERSION = re.compile(r'(?:^|;)\s*version\s*=\s*"?(?:0\.0\.[0-9]|1\.0\.0)"?\s*(?:;|$)', re.IGNORECASE)
_MILLISECONDS = 1e3
_END = "# EOF"


def is_exposition(essence: str, parameters: str) -> bool:
    """Tell whether a content type is one of Prometheus' own; plain text is one where it states a version."""
    return essence == OPENMETRICS_TYPE or (essence == _TEXT_TYPE and _VERSION.search(parameters) is not None)


def decode(arrival: Arrival) -> Envelope:
    """Decode the envelope in a snapshot.

    Raises:
        EnvelopeError: as of `text`, or `invalid_exposition`, `too_many_samples`.
    """
    stated = [*lines(text(arrival.body, arrival.content_encoding, arrival.max_bytes))]
    ticks_per_second = 1.0 if _has_seconds(arrival.content_type, stated) else _MILLISECONDS
    snapshot = Snapshot(ticks_per_second, unescaping(arrival.content_type or ""))
    snapshot.read(stated)
    if snapshot.is_empty and (rejected := snapshot.rejections.counts):
        raise EnvelopeError(
            BodyReason.INVALID_EXPOSITION, f"no line can be counted; {snapshot.rejections.show(next(iter(rejected)))}"
        )
    context = {label: name for label in ("job", "instance") if (name := name_of(arrival.headers.get(label)))}
    agent = name_of(arrival.app_id) or context.get("job") or UNKNOWN_AGENT
    source = arrival.source or name_of("/".join(context.values())) or arrival.sender
    part = Part(source, agent, context, [*snapshot.points(arrival.published_at)], snapshot.rejections)
    return Envelope(source, agent, arrival.published_at, [], [], parts=[part], format="prometheus")


def _has_seconds(content_type: str | None, stated: list[str]) -> bool:
    """Tell whether timestamps are OpenMetrics' seconds; its last line says so where no content type does."""
    essence, _, parameters = (content_type or "").partition(";")
    essence = essence.strip("\0 ").lower()
    if is_exposition(essence, parameters):
        return essence == OPENMETRICS_TYPE
    return bool(stated) and stated[-1] == _END
