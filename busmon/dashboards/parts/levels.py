"""Levels at which panels turn yellow and red: the thresholds of the alerts on the same series, so that both agree.

A level is a number, or names an alert and a key of it in the thresholds' file. Yellow is where a P2 alert waits, red
where a P1 alert does; where there is one of them only, the other number is the panel's own.
"""

from dataclasses import dataclass
from typing import TypeAlias

from grafana_foundation_sdk.models.dashboard import Threshold

from busmon.rules import Thresholds

Bound: TypeAlias = float | tuple[str, str]


@dataclass(frozen=True, slots=True)
class Levels:
    """From which value on a panel is yellow, and red; below which, where `yellow` is the larger one."""

    yellow: Bound
    red: Bound

    def steps(self, thresholds: Thresholds) -> list[Threshold]:
        """Return the steps in Grafana's form: the lowest colour first, without a value."""
        yellow, red = value(self.yellow, thresholds), value(self.red, thresholds)
        if yellow <= red:
            return [Threshold(None, "green"), Threshold(yellow, "yellow"), Threshold(red, "red")]
        return [Threshold(None, "red"), Threshold(red, "yellow"), Threshold(yellow, "green")]


def value(bound: Bound, thresholds: Thresholds) -> float:
    """Return the number that a bound means."""
    if isinstance(bound, tuple):
        alert, key = bound
        return float(thresholds.tables[alert][key])
    return bound


ERROR_RATIO = Levels(("ElevatedErrorRate", "ratio"), ("HighErrorRate", "ratio"))
CPU = Levels(("HighCpuUsage", "ratio"), 0.95)
MEMORY = Levels(("HighMemoryUsage", "ratio"), ("MemoryNearlyExhausted", "ratio"))
DISK = Levels(0.8, ("HostDiskFilling", "ratio"))
POOL = Levels(0.8, ("DatabaseConnectionPoolExhausted", "ratio"))
QUEUE = Levels(("QueueBackup", "messages"), ("QueueOverflow", "messages"))
RESPONSE_SECONDS = Levels(("SlowResponseTime", "p95_seconds"), ("ResponseTimesSpike", "p95_seconds"))
MEDIAN_SECONDS = Levels(1, ("SlowResponseTime", "p95_seconds"))
SILENCE_SECONDS = Levels(20, ("AgentSilent", "age_seconds"))
CERTIFICATE_DAYS = Levels(("CertificateExpiresSoon", "days"), ("CertificateExpiresVerySoon", "days"))
RECOVERY_SECONDS = Levels(300, 900)
RESTARTS = Levels(1, 5)
PIPELINE_SECONDS = Levels(1, ("PipelineLatencyHigh", "p95_seconds"))
SCRAPE_SECONDS = Levels(1, ("ScrapeSlow", "p95_seconds"))
COMMIT_SECONDS = Levels(0.1, 1)
BROKER = Levels(0.8, 0.95)
RULES = Levels(0.5, 1)
ANY = Levels(0.01, 1)
"""Nothing is right: a few are yellow, one is too many."""
