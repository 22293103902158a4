"""A benchmark script says in one line what to install, where a library that it needs is missing."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.patience import wait_until

ROOT = Path(__file__).parents[2]
INSTALL = "pip install --editable '.[fleet]' --group dev --group benchmarks"
HIDE = """
import sys

class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "{library}":
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Hide())
"""


@pytest.mark.parametrize(
    ("command", "library"),
    [
        ("batches.py", "prometheus_client"),
        ("consume.py", "prometheus_client"),
        ("dashboards.py", "grafana_foundation_sdk"),
        ("drains.py faststream a-queue 1", "faststream"),
        ("exposition.py", "prometheus_client"),
        ("fleet.py", "prometheus_client"),
        ("latency.py", "prometheus_client"),
        ("publish.py", "prometheus_client"),
        ("ready.py", "structlog"),
        ("registry.py", "prometheus_client"),
        ("scrape.py", "prometheus_client"),
        ("scrape.py --write", "matplotlib"),
    ],
)
def test_a_missing_library_is_named_in_one_line(tmp_path: Path, command: str, library: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(library=library))
    script, *arguments = command.split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *arguments],
        env={**environment, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stderr == f"{script} needs {library}, which isn't installed; run: {INSTALL}\n"
    assert done.returncode == 1


def test_hostile_lists_its_attacks_in_its_help() -> None:
    command = (sys.executable, ROOT / "benchmarks/hostile.py", "--help")
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    help_text = " ".join(done.stdout.split())
    assert "some of: nothing, wide histogram, long label values, bins of summaries" in help_text
    assert "forged sources (default: all)" in help_text


PARENT = """
import subprocess, sys, tempfile, time
import children, entry

def main():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        child = children.start([sys.executable, "-c", "import time; print(flush=True); time.sleep(1000)"], stdout=-1)
        child.stdout.readline()
        print(child.pid, flush=True)
        if sys.argv[2] == "running":
            with children.running([sys.executable, "-c", "import time; time.sleep(1000)"]) as other:
                print(other.pid, flush=True)
                time.sleep(1000)
        time.sleep(1000)

entry.run(main)
"""


def lives(pid: int) -> bool:
    """Return whether a process runs, and isn't a zombie."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("how", ["start", "running"])
def test_no_child_outlives_a_benchmark_that_a_signal_ends(how: str, number: signal.Signals, tmp_path: Path) -> None:
    program = [sys.executable, "-c", PARENT, str(tmp_path), how]
    with subprocess.Popen(
        program, env={**os.environ, "PYTHONPATH": str(ROOT / "benchmarks")}, stdout=subprocess.PIPE, text=True
    ) as benchmark:
        assert benchmark.stdout is not None
        pids = [int(benchmark.stdout.readline()) for _ in range(1 if how == "start" else 2)]
        assert all(map(lives, pids))
        benchmark.send_signal(number)
        status = benchmark.wait()
    wait_until(lambda: not any(map(lives, pids)))
    assert status == (-number if number == signal.SIGKILL else 128 + number)
    assert [*tmp_path.iterdir()] == [] or number == signal.SIGKILL
