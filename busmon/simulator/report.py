"""The report of simulated agents: every family of the built-in catalogue, by name, through the SDK.

A family that the user's catalogue replaces may have other labels, and is left alone. Belongs to an agent's thread.
"""

from busmon.catalogue import Catalogue
from busmon.catalogue.catalogue import PLATFORM
from busmon.catalogue.family import COUNTER, GAUGE, HISTOGRAM
from busmon.publish import Counter, Gauge, Histogram, Summary, Telemetry

_DOMAINS = {
    "task": ("task", "active_tasks"),
    "queue": ("message", "queue", "batch_size"),
    "error": ("error", "service_errors"),
    "business": ("votes", "pending_votes", "achievement", "points", "user", "content", "session"),
    "lifecycle": ("active_agents", "agent_starts", "agent_stops", "agent_restarts", "agent_heartbeats", "batch_job"),
}


class Report:
    """The instruments of one agent."""

    def __init__(self, telemetry: Telemetry, catalogue: Catalogue) -> None:
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._observed: dict[str, Histogram | Summary] = {}
        for name, family in catalogue.families.items():
            if catalogue.origins[name] != PLATFORM:
                continue
            arguments, domain = (name, family.help, family.labelnames), domain_of(name)
            if family.type == COUNTER:
                self._counters[name] = telemetry.counter(*arguments, domain=domain)
            elif family.type == GAUGE:
                self._gauges[name] = telemetry.gauge(*arguments, domain=domain)
            elif family.type == HISTOGRAM:
                self._observed[name] = telemetry.histogram(*arguments, domain=domain)
            else:
                self._observed[name] = telemetry.summary(*arguments, domain=domain)

    def count(self, name: str, *labelvalues: str, by: float = 1) -> None:
        """Increment a counter."""
        if counter := self._counters.get(name):
            (counter.labels(*labelvalues) if labelvalues else counter).inc(by)

    def show(self, name: str, *labelvalues: str, value: float) -> None:
        """Set a gauge."""
        if gauge := self._gauges.get(name):
            (gauge.labels(*labelvalues) if labelvalues else gauge).set(value)

    def observe(self, name: str, *labelvalues: str, value: float) -> None:
        """Observe a value in a histogram or summary."""
        if observed := self._observed.get(name):
            (observed.labels(*labelvalues) if labelvalues else observed).observe(value)


def domain_of(name: str) -> str:
    """Return the second word of the routing key, for a family of the platform."""
    return next((domain for domain, starts in _DOMAINS.items() if name.startswith(starts)), "system")
