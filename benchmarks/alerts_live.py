"""The time from a fault to the webhook, live: agents, RabbitMQ, fleet, exporter, Prometheus, Alertmanager, all real.

    python benchmarks/alerts_live.py                65 faults at random moments within 3 minutes; takes about 9
    python benchmarks/alerts_live.py --few          one of each of five kinds; takes about 3
    python benchmarks/alerts_live.py --write        the table goes into docs/alerting.md

Scrape, evaluation and group times are the shipped ones; of Alertmanager's configuration only the receivers are
replaced, by one webhook. Faults are independent of one another and overlap. A delay is from the moment at which an
agent's value changes, or a process is killed, to the webhook's request.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import entry
from alert_platform import Fault, Platform, serve
from alert_platform import address as address_of
from alerts import three

from busmon import rules
from busmon import settings as all_settings
from busmon.demo.rabbitmq import Address
from tests.stack import inbox
from tests.stack.native import NativeStack

WARM_UP_SECONDS = 75.0
SPREAD_SECONDS = 180.0
PATIENCE_SECONDS = 300.0
LAST_SECONDS = 60.0
"""By then the scraped targets that fail are told of."""

TICK_SECONDS = 1.0
PAGE = Path("docs/alerting.md")
BEGIN, END = "<!-- Written by `python benchmarks/alerts_live.py --write`: -->", "<!-- until there. -->"

SEVERAL = {
    "QueueOverflow": 6,
    "QueueFillsFast": 6,
    "DependencyDown": 6,
    "DatabaseConnectionPoolExhausted": 5,
    "MemoryNearlyExhausted": 5,
    "ResponseTimesSpike": 4,
    "TaskFailuresSpike": 1,
    "AgentSilent": 12,
    "ServiceDown": 4,
    "ServiceAbsent": 1,
    "ScrapeFilesSkipped": 1,
    "HighMemoryUsage": 2,
    "SlowResponseTime": 1,
    "DependencyBreakerOpen": 3,
    "ConfigurationReloadFailed": 3,
    "ConfigurationChanged": 2,
    "BatchJobStarted": 1,
    "BatchJobFailed": 1,
    "AgentRestarted": 1,
}
"""How many faults of each alert a run has."""


@dataclass(slots=True)
class Told:
    """The notifications of the webhook, with the time of each first one."""

    at: dict[tuple[str, str], float] = field(default_factory=dict)

    def take(self, request: dict[str, Any]) -> None:
        """Note each alert that fires."""
        now = time.monotonic()
        for alert in request["alerts"]:
            labels = alert["labels"]
            if alert["status"] == "firing":
                for value in ("", *labels.values()):
                    self.at.setdefault((labels["alertname"], value), now)


def main() -> None:
    """Play the faults, and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--few", action="store_true", help="one of each of five kinds")
    arguments.add_argument("--write", action="store_true", help="write the table into docs/alerting.md")
    arguments.add_argument("--seed", type=int, default=1, help="when the faults begin (default: 1)")
    given = arguments.parse_args()
    one = dict.fromkeys(
        ("QueueOverflow", "DependencyDown", "TaskFailuresSpike", "MemoryNearlyExhausted", "ServiceDown"), 1
    )
    with ExitStack() as stack:
        faults, told = play(stack, one if given.few else SEVERAL, SPREAD_SECONDS / (4 if given.few else 1), given.seed)
    lines = list(report(faults, told))
    print("\n".join(lines))
    if given.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.partition(END)[2]}")
    sys.exit(any(_delay(fault, told) is None for fault in faults))


def play(stack: ExitStack, counts: dict[str, int], spread: float, seed: int) -> tuple[list[Fault], Told]:
    """Start everything, have the faults happen, and wait until all are told."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="busmon-live-")))
    os.environ["BUSMON_SPOOL_DIR"] = str(directory / "spool")  # of agents here and of those that are started
    quiet = ("--agents", "1", "--rate", "0.2", "--deploys", "0")
    monitoring = stack.enter_context(NativeStack(directory, all_settings.load(), say, quiet))
    told = Told()
    _route(directory, monitoring.addresses["alertmanager"], address_of(_webhook(stack, told)))
    address = Address.read(directory / "rabbitmq")
    platform = Platform(stack, f"amqp://guest:guest@127.0.0.1:{address.amqp_port}/%2F", directory)
    faults, random = list(platform.faults(counts)), Random(seed)  # noqa: S311 - repeats by its seed
    _scrape(directory, monitoring.addresses["node"], faults)
    began = time.monotonic()
    for fault in faults:
        moment = spread + LAST_SECONDS if fault.is_last else random.uniform(0, spread)
        fault.due = began + WARM_UP_SECONDS + moment
    say(f"{len(faults)} faults, the first in {WARM_UP_SECONDS:.0f} s")
    last = began + WARM_UP_SECONDS + spread + PATIENCE_SECONDS
    while time.monotonic() < last and any(_delay(fault, told) is None for fault in faults):
        platform.tick()
        _advance(faults, told)
        time.sleep(TICK_SECONDS - time.monotonic() % TICK_SECONDS)
    return faults, told


def _advance(faults: Sequence[Fault], told: Told) -> None:
    """Have happen what is due."""
    now = time.monotonic()
    for fault in faults:
        if fault.due <= now:
            if fault.began is None:
                fault.began = now
                seen = sum(_delay(other, told) is not None for other in faults)
                say(f"{fault.alert} {fault.value}; {seen} of {len(faults)} told")
            fault.act(now - fault.began)


def report(faults: Sequence[Fault], told: Told) -> Iterator[str]:
    """Compute the delays of each alert, of all critical alerts, and of the others."""
    tiers = {
        rule.name: rule.labels["tier"]
        for groups in rules.read(rules.Thresholds.load()).values()
        for group in groups
        for rule in group.rules
        if isinstance(rule, rules.Alert)
    }
    yield "| Alert | Tier | Faults | Notified | From onset to the webhook, s: p50 / p95 / max |"
    yield "|---|---|---:|---:|---:|"
    for alert in sorted({fault.alert for fault in faults}):
        yield _row(alert, tiers[alert], [fault for fault in faults if fault.alert == alert], told)
    for name, is_critical in (("all critical", True), ("all others", False)):
        if some := [fault for fault in faults if (tiers[fault.alert] == "P1") == is_critical]:
            yield _row(name, "P1" if is_critical else "P2, P3", some, told)


def _row(name: str, tier: str, faults: Sequence[Fault], told: Told) -> str:
    known = [delay for fault in faults if (delay := _delay(fault, told)) is not None]
    return f"| {name} | {tier} | {len(faults)} | {len(known)} | {three(known)} |"


def _delay(fault: Fault, told: Told) -> float | None:
    """Compute the time from the onset to the webhook; None where it was told nothing, or told before the onset."""
    at = told.at.get((fault.alert, fault.value))
    return at - fault.began if fault.began is not None and at is not None and at >= fault.began else None


def _route(directory: Path, alertmanager: str, webhook: str) -> None:
    """Give every receiver the webhook, and nothing else."""
    inbox.address(directory / "alertmanager/alertmanager.yml", f"http://{webhook}")
    reload = urllib.request.Request(f"http://{alertmanager}/-/reload", method="POST")
    urllib.request.urlopen(reload).close()  # noqa: S310 - a server of our own


def _scrape(directory: Path, node: str, faults: Sequence[Fault]) -> None:
    """Have Prometheus scrape the targets that are to fail, and the host."""
    targets = [node, *(fault.value for fault in faults if fault.alert == "ServiceDown")]
    (directory / "prometheus/targets/node.yml").write_text(json.dumps([{"targets": targets}]))


def _webhook(stack: ExitStack, told: Told) -> ThreadingHTTPServer:
    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return serve(stack, Hook)


def say(line: str) -> None:
    """Print progress, on a terminal or in a log."""
    print(f"{time.strftime('%X')}  {line}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        entry.run(main)
