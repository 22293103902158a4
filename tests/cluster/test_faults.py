"""Each fault: every agent's tasks are counted, once, by each exporter, and the counting goes on."""

from pathlib import Path

import pytest

from tests.cluster import trial
from tests.cluster.faults import CASES, Case
from tests.cluster.trial import Measured, Stand


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_task_is_counted_once(stand: Stand, rows: list[Measured], tmp_path: Path, case: Case) -> None:
    measured = trial.run(stand, tmp_path / "lab", stand.nodes[len(rows) % 3], case)
    rows.append(measured)
    assert not measured.faults
