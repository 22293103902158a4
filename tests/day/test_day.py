"""Three days of a few sources in seconds: counts are exact, and nothing is larger than the day before."""

from pathlib import Path

import structlog

from tests.day.churn import Churn
from tests.day.day import Pace, judge, simulate

PACE = Pace(1800.0, 1 << 12)
NOISE = {
    "private KiB": 1e9,
    "other files, bytes": 65_536.0,
    "journals, bytes": 16_384.0,
    "streams": 10.0,
    "sources in the ledgers": 30.0,
}
"""The memory of a process that ran other tests says nothing."""


def test_sources_values_and_totals_come_and_go_and_nothing_grows(tmp_path: Path) -> None:
    with structlog.testing.capture_logs():
        simulation, shown = simulate(tmp_path, Churn(sources=300, values=1000, days=3, seed=1), PACE)
    assert simulation.refused == []
    assert shown == simulation.published
    assert [verdict for verdict in judge(simulation.notes, 3, NOISE) if not verdict.is_flat] == []
    assert 280 < simulation.notes[-1]["sources in the ledgers"] < 380
