"""This version's registry directory, written by `make registry` for the tests of upgrades.

A real fleet counts on a broker of its own, is scraped, and is killed with SIGKILL as a whole. The directory that it
leaves and the scrape's lines become `registry-VERSION.tar.gz` and `.txt` among the fixtures. Each later version must
serve the same lines and know the ids `fix-1:1` and `s0:1` to `s29:1`. A fixture that is there is never replaced.
"""

import os
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pika
import psutil

import busmon
from busmon.demo.broker import PrivateNode
from tests.fleet.publishing import envelope, properties, publish
from tests.fleet.real_fleet import RealFleet

FIXTURES = Path(__file__).parents[1] / "unit/registry/shard/fixtures"
SOURCES = 30
VOTES = "votes_cast_total"
STABLE = ("messages_published_total", "task_duration_seconds", "tasks_processed_total", VOTES, "fixture_")
"""Families, or beginnings of their names, whose lines don't depend on when a scrape is taken."""

ODD = 'a"b\\c\nd é'
MIXED: list[dict[str, Any]] = [
    {"name": "fixture_seen_total", "type": "counter", "labels": {"odd": ODD}, "value": 3},
    {"name": "fixture_level", "type": "gauge", "op": "add", "value": 2.5},
    {"name": "fixture_size_bytes", "type": "summary", "values": [10, 20, 30]},
    {"name": "fixture_wait_seconds", "type": "histogram", "labels": {"k": "v"}, "values": [0.2, 3]},
    {"name": "fixture_backup_bytes", "type": "gauge", "outlives_source": True, "value": 73400320},
]


def bodies() -> Iterator[tuple[bytes, pika.BasicProperties]]:
    """Yield an envelope of each kind of series, a total, an envelope with an owner, and one of each other source."""
    yield envelope("fix-1", 1, MIXED)
    for number in range(SOURCES):
        labels = {"agent": "fixture", "status": "success"}
        yield envelope(f"s{number}", 1, [{"name": "tasks_processed_total", "labels": labels, "value": 1}])
    for sequence, total in enumerate((17, 41)):
        of_total = properties("fix-text", f"fix-text:{sequence}")
        of_total.content_type = "text/plain; version=0.0.4"
        text = f"# TYPE fixture_text_total counter\nfixture_text_total {total}\n"
        yield text.encode(), of_total
    body, owned = envelope("fix-owned", 1, [{"name": VOTES, "labels": {"type": "upvote"}, "value": 5}])
    owned.user_id = "guest"
    yield body, owned


def make(directory: Path) -> tuple[Path, list[str]]:
    """Count, scrape and kill a fleet; returns its registry directory and the scrape's lines."""
    with PrivateNode(directory / "broker") as node:
        fleet = RealFleet(directory, node.amqp_url)
        fleet.start()
        publish(node.amqp_url, bodies())
        published = simulate(directory, node.amqp_url)
        fleet.wait_for_total("tasks_processed_total", published["tasks_processed_total"] + SOURCES)
        fleet.wait_for_total(VOTES, published[VOTES] + 5)
        fleet.wait_for_total("fixture_seen_total", 3)
        scraped = fleet.get("/metrics")[1].decode().splitlines()
        kill(fleet.process.pid)
        fleet.process.wait()
    return fleet.registry_dir, sorted(line for line in scraped if line.startswith(STABLE) and "quantile=" not in line)


def simulate(directory: Path, amqp_url: str) -> dict[str, float]:
    """Publish as a platform of agents does; returns the total of each sample name."""
    report = directory / "published.json"
    command = [sys.executable, "-m", "busmon", "simulate", "--seconds", "5", "--amqp-url", amqp_url]
    subprocess.run([*command, "--totals", str(report)], check=True, stdout=subprocess.DEVNULL)
    totals: dict[str, float] = orjson.loads(report.read_bytes())["totals"]
    return totals


def kill(supervisor: int) -> None:
    """Kill a fleet's processes; the supervisor is halted first, so that no worker is replaced or ends in order."""
    os.kill(supervisor, signal.SIGSTOP)
    children = psutil.Process(supervisor).children(recursive=True)
    for process in children:
        process.kill()
    os.kill(supervisor, signal.SIGKILL)
    psutil.wait_procs(children)


def without_status(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what the processes said of themselves."""
    return None if member.name.startswith("registry/status") else member


def main() -> None:
    """Write the fixture of this version, unless it is there."""
    name = FIXTURES / f"registry-{busmon.__version__}"
    archived = name.with_name(f"{name.name}.tar.gz")
    if archived.exists():
        sys.exit(f"{archived} exists; expected: a new version in busmon/__init__.py")
    with tempfile.TemporaryDirectory(prefix="busmon-registry-", dir="/var/tmp") as fresh:
        registry, lines = make(Path(fresh))
        with tarfile.open(archived, "w:gz") as archive:
            archive.add(registry, "registry", filter=without_status)
        name.with_name(f"{name.name}.txt").write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{archived}: {len(lines)} lines\n")


if __name__ == "__main__":
    main()
