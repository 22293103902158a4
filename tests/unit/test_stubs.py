"""The stub of pika says what the installed pika has: a name or a signature that changes there fails here."""

import os
import subprocess
import sys
from pathlib import Path

STUBS = Path(__file__).parents[1] / "stubs"


def test_the_stub_of_pika_agrees_with_pika() -> None:
    # A class that its base makes a disjoint one in Python 3.11 isn't one in Python 3.12.
    ignored = ("--ignore-missing-stub", "--ignore-disjoint-bases", "--allowlist", STUBS / "differing.txt")
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "pika", "--concise", *ignored],
        env=os.environ | {"MYPYPATH": str(STUBS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
