"""The programs and commands that README.md and docs/ show, run against a real fleet as they are printed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Vhost
from tests.documented import Block, blocks
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

COUNTED = {
    'tasks_processed_total{agent="analyzer",status="success"} 5.0',
    'tasks_processed_total{agent="backup",status="success"} 3.0',
    'task_duration_seconds_count{agent="analyzer"} 4.0',
    'backup_size_bytes{db="main"} 7.340032e+07',
    'batch_jobs_completed_total{job_name="db"} 1.0',
    'votes_cast_total{type="upvote"} 3.0',
}
SAMPLE = '{"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}\n'
PRELUDE = "generate() { cat samples.jsonl; }\n"  # the reader's own program of docs/publish.md
ELSEWHERE = ("/etc/prometheus/rules", "/var/lib/grafana/dashboards")  # the reader's directories
CATALOGUE = "docs/catalogue.md"
LOOKING = "docs/bounds.md"
PUBLISHING = ("README.md", "docs/getting-started.md", "docs/publish.md", "docs/wire-format.md")


def test_what_the_pages_show_is_counted(tmp_path: Path, vhost: Vhost) -> None:
    (tmp_path / "samples.jsonl").write_text(SAMPLE)
    programs = [block for block in blocks("python") if block.page in PUBLISHING]
    commands = [block for block in blocks("sh") if block.page in PUBLISHING and block.runnable()]
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        for block in programs:
            run(tmp_path, vhost, sys.executable, "-c", block.text)
        for block in commands:
            run(tmp_path, vhost, "sh", "-ec", PRELUDE + block.runnable())
        wait_until(lambda: {*fleet.get("/metrics")[1].decode().splitlines()} >= COUNTED, "what the pages publish")
        assert fleet.totals().get("busmon_samples_rejected_total", 0) == 0


def test_what_the_pages_remove_is_removed(tmp_path: Path, vhost: Vhost) -> None:
    shown = next(block for block in blocks("sh") if block.page == LOOKING)
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        for arguments in ("queue_size 1 -l queue=tasks", "queue_size 2 -l queue=others --agent telegraf-1"):
            run(tmp_path, vhost, "sh", "-ec", f"busmon publish {arguments} --type gauge")
        wait_until(lambda: fleet.totals().get("queue_size") == 3, "both gauges")
        run(tmp_path, vhost, "sh", "-ec", shown.runnable())
        wait_until(lambda: "queue_size" not in fleet.totals(), "the gauges to be gone")


@pytest.mark.parametrize(
    "block",
    [block for block in blocks("sh") if block.page not in {*PUBLISHING, LOOKING} and block.runnable()],
    ids=str,
)
def test_a_command_of_a_page_runs(block: Block, tmp_path: Path, vhost: Vhost) -> None:
    (tmp_path / "search.toml").write_text(next(each.text for each in blocks("toml") if each.page == CATALOGUE))
    script = block.runnable()
    for path in ELSEWHERE:
        script = script.replace(path, str(tmp_path / Path(path).name))
    run(tmp_path, vhost, "sh", "-ec", script)


def run(directory: Path, vhost: Vhost, *command: str) -> None:
    """Run a program as a reader does whose virtual environment is active."""
    environment = {
        **os.environ,
        "BUSMON_AMQP_URL": vhost.amqp_url,
        "BUSMON_REGISTRY_DIR": str(directory / "registry"),
        "BUSMON_SPOOL_DIR": str(directory / "spool"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.replace("busmon: 1 sample confirmed in 1 envelope\n", "")) == (0, "")
