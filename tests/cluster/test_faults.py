"""Each fault of a node: every agent's tasks are counted, once, and the counting goes on."""

from pathlib import Path

import pytest

from tests.cluster import trial
from tests.cluster.faults import FAULTS, Fault
from tests.cluster.trial import Measured, Stand


@pytest.mark.parametrize(
    ("fault", "role"),
    [pytest.param(fault, role, id=f"{fault.name}, {role}") for fault in FAULTS for role in fault.roles],
)
def test_every_task_is_counted_once(
    stand: Stand, rows: list[Measured], tmp_path: Path, fault: Fault, role: str
) -> None:
    measured = trial.run(stand, tmp_path / "lab", stand.nodes[len(rows) % 3], fault, role)
    rows.append(measured)
    assert measured.counted == measured.published
