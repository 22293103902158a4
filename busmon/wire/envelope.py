"""The envelope: what one publish says, as every decoder gives it to the fold.

`samples` and `tables` hold what JSON gives (dicts, lists, numbers, strings), unchecked but for being lists: the fold
looks at each sample once, and a second pass over all of them would cost as much as the fold does. Formats that others
made come as `parts`, whose points say for themselves what they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from busmon.wire.celery_event import CeleryEvent
from busmon.wire.rejections import NO_LABELS, Rejections

SOURCE_SEPARATOR = "\x1f"
"""The character between a user and its source of another format. No envelope can state a source with it."""

SET = "set"
ADD = "add"

MOVE = "move"
"""A difference: it is added to a gauge that accumulates, and moves the source's own reading of any other."""

SIGNED = "signed"
"""A difference for a gauge that accumulates, and a reading of any other."""


@dataclass(frozen=True, slots=True)
class Observed:
    """Observations that somebody else has counted.

    Attributes:
        count: how many.
        sum: of their values.
        buckets: how many by finite upper bound, ascending and not cumulative; the rest of them lie above.
        is_exact: a histogram's bounds must be among these; else a bucket counts where its upper bound lies.
    """

    count: float
    sum: float
    buckets: Mapping[float, float]
    is_exact: bool = True


class Point(NamedTuple):
    """One value in a format that isn't busmon's own.

    Attributes:
        name: the producer's name, which the catalogue's mapping rules match.
        family: the name that it has without a rule.
        type: None where the format doesn't say: the family's, or a gauge.
        value: a number, a list of observations, or `Observed`.
        labels: as its producer has them.
        at: when it was measured, in seconds since the epoch; None where it doesn't say.
        is_total: the value is what there was since `start`, not since the point before.
        start: when a total was 0, in seconds since the epoch; None where it doesn't say.
        op: of a gauge: `SET`, `ADD`, or one that its family decides on: `MOVE` or `SIGNED`.
            With no type, the value is a reading or a total, and no observation.
    """

    name: str
    family: str
    type: str | None
    value: float | list[float] | Observed
    labels: Mapping[str, str] = NO_LABELS
    at: float | None = None
    is_total: bool = False
    start: float | None = None
    op: str | None = None


class Part(NamedTuple):
    """The points of one source.

    Attributes:
        context: labels that a family may have and a point doesn't say: of the resource, of the job.
        rejections: what its decoder could make no points of; None where the format is taken whole or not at all.
        is_anonymous: nothing in the body names its source's host or instance, so another source may have this name.
        events: of Celery, which the fold makes points of.
        times_counted: how often a body of these bytes was counted, where this one may be one of them: it is redelivered
            and has no id.
    """

    source: str
    agent: str
    context: Mapping[str, str]
    points: Sequence[Point]
    rejections: Rejections | None = None
    is_anonymous: bool = False
    events: Sequence[CeleryEvent] = ()
    times_counted: int = 0


class Cut(Protocol):
    """The samples of a body that was scanned instead of parsed.

    Attributes:
        body: as delivered, for a parser where the samples can't be folded without it.
        samples: how many there are.
    """

    body: bytes
    samples: int


class Envelope(NamedTuple):
    """A decoded body.

    Attributes:
        source: one run of one publishing process.
        agent: the agent that publishes, `unknown` where the body doesn't say.
        ts: when the envelope was made, in seconds since the epoch; None where the body doesn't say.
        samples: one object each, as in the wire format.
        tables: the columnar form of samples, as in the wire format.
        final: the source publishes nothing after it.
        parts: what other formats say, source by source.
        identity: what a body without a `message_id` is known by; None where nothing in it tells it from its repetition.
        format: the name that the settings have for it.
        cut: what there is in the place of samples and tables, which are empty then.
        is_shared: another user may rightly have a source of the same name, and is told from this one.
    """

    source: str
    agent: str
    ts: float | None
    samples: list[Any]
    tables: list[Any]
    final: bool = False
    parts: Sequence[Part] = ()
    identity: str | None = None
    format: str = "json"
    cut: Cut | None = None
    is_shared: bool = False
