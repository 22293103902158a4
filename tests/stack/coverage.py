"""Writes docs/coverage.md: which metrics, alerts and panels watch each critical path of a sample, from agent to alert.

    python -m tests.stack.coverage

What a rule or a panel watches is read from its expression; recorded series are followed to what they come from.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from busmon import rules
from busmon.dashboards import BOARDS
from busmon.dashboards.parts import promql

PAGE = Path(__file__).parents[2] / "docs/coverage.md"
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_SHOWN = 4

PATHS: Mapping[str, tuple[str, ...]] = {
    "publish": (
        "busmon_publisher_dropped_total",
        "busmon_clock_skew_total",
        "busmon_last_envelope_timestamp_seconds",
        "rabbitmq_global_messages_received_confirm_total",
    ),
    "confirm": (
        "rabbitmq_global_messages_confirmed_total",
        "rabbitmq_global_messages_unroutable_returned_total",
        "busmon_publisher_dropped_total",
    ),
    "queue": ("busmon_queue_depth", "message_latency_seconds_bucket", "rabbitmq_process_resident_memory_bytes"),
    "consume": ("busmon_shard_state", "busmon_worker_up", "busmon_worker_restarts_total", "busmon_reconnects_total"),
    "decode": (
        "busmon_envelopes_rejected_total",
        "busmon_quarantine_dropped_total",
        "busmon_quarantine_discarded_total",
    ),
    "fold": ("busmon_samples_folded_total", "busmon_samples_rejected_total", "busmon_label_overflow_total"),
    "commit": ("busmon_commit_duration_seconds_bucket", "busmon_envelopes_consumed_total", "busmon_batches_total"),
    "ack": (
        "rabbitmq_global_messages_acknowledged_total",
        "rabbitmq_global_messages_redelivered_total",
        "busmon_queue_depth",
    ),
    "expose": ("busmon_scrape_duration_seconds_bucket", "busmon_scrape_files_skipped", "busmon_series"),
    "scrape": ("up", "scrape_samples_scraped", "prometheus_tsdb_head_series"),
    "alert": (
        "alertmanager_notifications_failed_total",
        "prometheus_notifications_dropped_total",
        "prometheus_rule_group_last_duration_seconds",
    ),
    "dependencies": ("service_up", "circuit_breaker_state", "connection_pool_active"),
}
"""What tells how each step of a sample's way is doing."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One critical path: its metrics that are watched, and who watches them."""

    path: str
    metrics: tuple[str, ...]
    alerts: tuple[str, ...]
    panels: tuple[str, ...]

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """The three kinds of watching."""
        return self.metrics, self.alerts, self.panels


def watched() -> list[Watched]:
    """Every path."""
    every = [
        rule for groups in rules.read(rules.Thresholds.load()).values() for group in groups for rule in group.rules
    ]
    recorded = {rule.name: rule.expr for rule in every if isinstance(rule, rules.Recording)}
    alerts = {rule.name: names(rule.expr, recorded) for rule in every if isinstance(rule, rules.Alert)}
    panels = {
        panel.title: names(promql.fill(" ".join(panel.queries.values()), is_hourly=False), recorded)
        for board in BOARDS
        for row in board.rows.values()
        for panel in row
    }
    return [
        Watched(
            path,
            tuple(
                metric for metric in metrics if any(metric in found for found in [*alerts.values(), *panels.values()])
            ),
            _watching(metrics, alerts),
            _watching(metrics, panels),
        )
        for path, metrics in PATHS.items()
    ]


def names(expression: str, recorded: Mapping[str, str]) -> set[str]:
    """The names in an expression, and in those of the series that it takes from recordings."""
    found = set(_NAME.findall(expression))
    for name in found & set(recorded):
        found |= names(recorded[name], recorded)
    return found


def _watching(metrics: Iterable[str], watchers: Mapping[str, set[str]]) -> tuple[str, ...]:
    return tuple(name for name, found in watchers.items() if found & set(metrics))


def share(rows: Iterable[Watched]) -> float:
    """How many of all cells are filled, from 0 to 1."""
    cells = [bool(cell) for row in rows for cell in row.cells]
    return sum(cells) / len(cells)


def page() -> str:
    """The page's text."""
    rows = watched()
    lines = [
        "# What watches each step of a sample's way",
        "",
        f"{share(rows):.0%} of the cells are filled. Written by `python -m tests.stack.coverage`.",
        "",
        "| Path | Metrics | Alerts | Panels |",
        "|---|---|---|---|",
        *(f"| {row.path} | {' | '.join(map(_cell, row.cells))} |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _cell(entries: tuple[str, ...]) -> str:
    shown = [f"`{entry}`" if "_" in entry else entry for entry in entries[:_SHOWN]]
    return "; ".join(shown) + (f" and {len(entries) - _SHOWN} more" if len(entries) > _SHOWN else "")


def main() -> int:
    """Write it."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
