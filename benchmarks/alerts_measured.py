"""The measurement of each alert: rule tests for all, in bulk and live for most, or the reason why not.

    python benchmarks/alerts_measured.py --write    the table goes into docs/alerting.md

The tests fail where an alert is in neither, and where the page isn't what would be written.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import entry
from alert_courses import IN_RULE_TESTS_ONLY
from alert_traces import FAULTS
from alerts_live import SEVERAL

from busmon import rules

PAGE = Path("docs/alerting.md")
BEGIN, END = "<!-- Written by `python benchmarks/alerts_measured.py --write`: -->", "<!-- up to here. -->"

_LONG = "its window and its `for` are longer than the run"
_SHARED = "it would stop the fleet that the other faults need"
_REPLICATED = "it needs a replicated fleet, which the run doesn't have"
_TELLER = "it would break the path to the webhook"
NOT_LIVE = {
    **dict.fromkeys(
        (
            "CertificateExpiresSoon",
            "CertificateExpiresVerySoon",
            "ClockSkew",
            "ElevatedErrorRate",
            "HighCpuUsage",
            "HighErrorRate",
            "HostDiskFilling",
            "LabelOverflow",
            "MemoryLeak",
            "PrometheusConfigRejected",
            "QuarantineGrows",
            "QueueBackup",
            "RuleEvaluationFails",
            "SamplesRejected",
            "ScrapeSlow",
            "SeriesOverflow",
            "TaskErrorBudgetBurns",
            "TaskErrorBudgetBurnsFast",
            "TaskErrorBudgetShrinks",
            "UnresolvedCritical",
            "UnresolvedWarning",
        ),
        _LONG,
    ),
    **dict.fromkeys(
        (
            "BrokerAlarm",
            "NotReady",
            "PipelineLatencyHigh",
            "PipelineNotConsuming",
            "PipelineStalled",
            "PublisherDropsSamples",
            "ShardStalled",
            "WorkerCrashLoops",
            "WorkerDown",
        ),
        _SHARED,
    ),
    **dict.fromkeys(
        ("CeleryNothingConsumed", "CeleryQueueGrows", "CeleryTasksFail", "CeleryTasksSlow", "CeleryWorkerGone"),
        "the run has no Celery",
    ),
    **dict.fromkeys(("AlertmanagerMissing", "AlertsNotDelivered"), _TELLER),
    **dict.fromkeys(("LogNearRetention", "ReplicaLags", "ShardWithoutOwner"), _REPLICATED),
    "AdoptedFamiliesNearlyFull": "it needs 800 metrics, which would fill the fleet's budget permanently",
    "BatchJobCompleted": "it is notified in one group with BatchJobStarted, up to 15 minutes later",
    "QuarantineDropsBodies": "it needs a full quarantine",
    "Watchdog": "it fires before any fault",
}
"""The alerts that the live measurement leaves out, and why."""


def main() -> None:
    """Print or write the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="write the table into docs/alerting.md")
    if arguments.parse_args().write:
        PAGE.write_text(page(PAGE.read_text()))
    else:
        print("\n".join(table()))


def page(text: str) -> str:
    """Put the table into the page's text."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n" + "\n".join(table()) + f"\n\n{END}{rest.partition(END)[2]}"


def table() -> Iterator[str]:
    """Write a line for each alert."""
    bulk, live = in_bulk(), set(SEVERAL)
    yield "| Alert | Bulk | Live |"
    yield "|---|---|---|"
    for name in sorted(alerts()):
        yield f"| {name} | {_cell(name, bulk, IN_RULE_TESTS_ONLY)} | {_cell(name, live, NOT_LIVE)} |"


def alerts() -> set[str]:
    """List every alert."""
    groups = [group for groups in rules.read(rules.Thresholds.load()).values() for group in groups]
    return {rule.name for group in groups for rule in group.rules if isinstance(rule, rules.Alert)}


def in_bulk() -> set[str]:
    """List the alerts that an episode of the bulk measurement must or may set off."""
    return set().union(*(fault.must | fault.may for fault in FAULTS.values()))


def _cell(name: str, measured: set[str], reasons: Mapping[str, str]) -> str:
    return "yes" if name in measured else f"no: {reasons.get(name, 'nobody said why')}"


if __name__ == "__main__":
    entry.run(main)
