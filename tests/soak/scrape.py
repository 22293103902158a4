"""One scrape, parsed: values by sample name and labels, and what must hold within every scrape.

Pure, but for `fetch`.
"""

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import fsum

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]

TIMEOUT_SECONDS = 10.0

EXPORTERS_OWN = (
    "process_",
    "python_",
    "busmon_worker_restarts",
    "busmon_reconnects",
    "busmon_envelopes_forwarded",
    "busmon_config_reloads",
    "busmon_scrape_",
)
"""The families of the exporter itself and of the supervisor, which start again with their processes."""


@dataclass(slots=True)
class Scrape:
    """The series that never decrease, and those that may."""

    counters: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)

    @classmethod
    def parse(cls, exposition: str) -> "Scrape":
        """A scrape in the text format 0.0.4."""
        scrape = cls()
        for family in text_string_to_metric_families(exposition):
            for sample in family.samples:
                grows = family.type in ("counter", "histogram") or sample.name.endswith(("_count", "_sum"))
                own = sample.name.startswith(EXPORTERS_OWN)
                values = scrape.counters if grows and not own else scrape.gauges
                values[sample.name, labels_of(sample.labels)] = sample.value
        return scrape

    def total(self, name: str, **labels: str) -> float:
        """The sum of all counters of this name that have these labels."""
        wanted = labels.items()
        return fsum(value for (found, having), value in self.counters.items() if found == name and wanted <= {*having})

    def contradictions(self, agents: list[str]) -> Iterator[str]:
        """Find figures of different batches: series that each envelope changes equally, and that differ.

        Args:
            agents: whose envelopes each add to all the series of a raw publisher's envelope.
        """
        for (name, labels), value in self.counters.items():
            if name.endswith("_bucket") and ("le", "inf") in labels:
                count = (name.removesuffix("_bucket") + "_count", tuple(pair for pair in labels if pair[0] != "le"))
                yield from _unequal(f"{count}", {"+Inf": value, "count": self.counters.get(count)})
        for (name, labels), value in self.counters.items():
            if name == "busmon_envelopes_consumed_total":
                queue = f"telemetry.fold.{dict(labels)['shard']}"
                measured = self.total("message_latency_seconds_count", queue=queue)
                yield from _unequal(queue, {"consumed": value, "latencies": measured})
        consumed = self.total("busmon_envelopes_consumed_total")
        yield from _unequal("fleet", {"consumed": consumed, "sizes": self.total("message_size_bytes_count")})
        for agent in agents:
            yield from self._contradictions_of(agent)

    def _contradictions_of(self, agent: str) -> Iterator[str]:
        counts = [
            "tasks_processed_total",
            "agent_heartbeats_total",
            "task_duration_seconds_count",
            "soak_envelopes_total",
        ]
        yield from _unequal(agent, {name: self.total(name, agent=agent) for name in counts})
        sums = ["task_duration_seconds_sum", "agent_cpu_seconds_total"]
        yield from _unequal(agent, {name: self.total(name, agent=agent) for name in sums})

    def setbacks(self, before: "Scrape") -> Iterator[str]:
        """The counters that have gone down since, or are gone."""
        for (name, labels), value in before.counters.items():
            now = self.counters.get((name, labels))
            if now is None or now < value:
                yield f"{name}{dict(labels)} went from {value} to {now}"


def labels_of(labels: dict[str, str]) -> Labels:
    """Labels as a part of a key; a bound reads the same whoever wrote it."""
    return tuple(sorted((name, value if name != "le" else str(float(value))) for name, value in labels.items()))


def _unequal(what: str, values: dict[str, float | None]) -> Iterator[str]:
    if len({*values.values()}) > 1:
        yield f"{what}: {values}"


def fetch(address: str) -> str:
    """Return the text of a scrape.

    Raises:
        OSError: there is none, or an `HTTPError` with the status of another answer than 200.
        http.client.HTTPException: the answer broke off.
    """
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=TIMEOUT_SECONDS) as answer:
        page: bytes = answer.read()
        return page.decode()
