"""The programs and commands that README.md and docs/wire-format.md show, run against a real fleet as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet, wait_until

ROOT = Path(__file__).parents[2]
COUNTED = {
    'tasks_processed_total{agent="analyzer",status="success"} 2.0',
    'tasks_processed_total{agent="backup",status="success"} 2.0',
    'task_duration_seconds_count{agent="analyzer"} 1.0',
    'backup_size_bytes{db="main"} 7.340032e+07',
    'batch_jobs_completed_total{job_name="db"} 1.0',
    'votes_cast_total{type="upvote"} 1.0',
}


@pytest.mark.timeout(180)
def test_what_the_pages_show_is_counted(tmp_path: Path, vhost: Vhost) -> None:
    readme, format_ = blocks(ROOT / "README.md"), blocks(ROOT / "docs" / "wire-format.md")
    (publishing,) = (text for text in readme["sh"] if "busmon publish" in text)
    (sample,) = re.findall(r"\{\"name\".*", publishing)
    (tmp_path / "samples.jsonl").write_text(sample + "\n")
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        wait_until(fleet.is_consuming, "a fleet that consumes")
        for program in (*readme["python"], *format_["python"]):
            run(tmp_path, vhost, sys.executable, "-c", program)
        run(tmp_path, vhost, "sh", "-ec", publishing)
        wait_until(lambda: {*fleet.get("/metrics")[1].decode().splitlines()} >= COUNTED, "what the pages publish")
        assert fleet.totals().get("busmon_samples_rejected_total", 0) == 0


def blocks(page: Path) -> dict[str, list[str]]:
    """The fenced blocks of a page, by language."""
    found: dict[str, list[str]] = {}
    for language, text in re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
        found.setdefault(language, []).append(text)
    return found


def run(directory: Path, vhost: Vhost, *command: str) -> None:
    """Run a program as a reader does whose virtual environment is active."""
    environment = {
        **os.environ,
        "BUSMON_AMQP_URL": vhost.amqp_url,
        "BUSMON_SPOOL_DIR": str(directory / "spool"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.replace("busmon: 1 sample confirmed in 1 envelope\n", "")) == (0, "")
