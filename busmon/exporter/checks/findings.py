"""Findings of the checks at one moment: plain values for the readiness document and the own metrics.

Pure. A finding that has grown older than it may is not believed any more, whatever it says.
"""

from dataclasses import dataclass

from busmon.plurals import ago

UNCHECKED = "it has not been checked yet"
BREAKER_STATES = ("closed", "half_open", "open")


@dataclass(frozen=True, slots=True)
class Condition:
    """Something that is to hold in a dependency that answers, as `database_migration`.

    Attributes:
        met: it is known to hold.
        cause: why it isn't known to, in words; empty where the dependency itself doesn't answer.
        required: nothing is ready without it.
    """

    name: str
    met: bool
    cause: str
    required: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """The last finding of one dependency's check.

    Attributes:
        up: it answered as it should.
        cause: why it didn't, in words; empty if it did.
        required: nothing is ready without it.
        conditions: every one that the check is to see to, whether the dependency answers or not.
        checked_at: seconds since the epoch; None before the first answer or failure.
        duration_seconds: what the check took.
        breaker: `closed`, `open` or `half_open`.
        valid_seconds: how old the finding may get.
    """

    name: str
    required: bool
    up: bool
    cause: str
    conditions: tuple[Condition, ...]
    checked_at: float | None
    duration_seconds: float
    breaker: str
    valid_seconds: float

    def age_seconds(self, now: float) -> float | None:
        """Return the age of the finding at `now`; None before the first check."""
        return None if self.checked_at is None else max(0.0, now - self.checked_at)

    def fault(self, now: float) -> str:
        """Return the reason why the dependency isn't available at `now`, in words; empty if it is."""
        age = self.age_seconds(now)
        if self.cause or age is None or age <= self.valid_seconds:
            return self.cause
        return f"it was last checked {ago(age)}"


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of one resource.

    Attributes:
        resource: `memory`, `disk` or `cpu`.
        ratio: the share in use, of the limit that holds for this process.
        threshold: the share above which it is too much.
        read_at: seconds since the epoch.
    """

    resource: str
    ratio: float
    threshold: float
    read_at: float

    @property
    def high(self) -> bool:
        """True if the use is above the threshold."""
        return self.ratio > self.threshold


@dataclass(frozen=True, slots=True)
class Findings:
    """All of them; empty where nothing is configured."""

    dependencies: tuple[Finding, ...] = ()
    resources: tuple[Usage, ...] = ()
