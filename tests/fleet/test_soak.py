"""A short soak: every kind of kill at least once; `make soak` does it for minutes, with what is worse than a kill."""

import os
import subprocess
import sys
from pathlib import Path

from tests.soak.processes import ROOT


def test_totals_stay_exact_while_everything_is_killed(tmp_path: Path) -> None:
    soak = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--kills", "12", "--seconds", "12", "--directory", str(tmp_path / "soak")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
