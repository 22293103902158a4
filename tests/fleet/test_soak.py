"""A short soak: every kind of kill at least once; `make soak` does it for minutes, with what is worse than a kill."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.soak.processes import ROOT


@pytest.mark.parametrize(("hosts", "seconds"), [("1", "12"), ("2", "24")], ids=["one host", "two hosts"])
def test_totals_stay_exact_while_everything_is_killed(tmp_path: Path, hosts: str, seconds: str) -> None:
    length = ("--kills", "12", "--seconds", seconds)
    soak = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--hosts", hosts, *length, "--directory", str(tmp_path / "soak")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
