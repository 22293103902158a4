"""Real agents and a real fleet: what an agent that is killed had on disk is counted once, and so are its lives."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from tests.conftest import Vhost
from tests.fleet.real_fleet import RealFleet
from tests.patience import wait_until

UNREACHABLE = "amqp://guest:guest@127.0.0.1:1/"

PROGRAM = """
import sys, time
from busmon import Telemetry
with Telemetry("analyzer", sys.argv[1]) as telemetry:
    hits, sizes = telemetry.counter("hits_total"), telemetry.summary("reply_bytes")
    hits.inc()
    while "work" in sys.argv:
        for _ in range(1000):
            sizes.observe(1)
        time.sleep(0.001)
    assert telemetry.flush(30)
    print("flushed", flush=True)
    sys.stdin.read()
"""


@contextmanager
def agent(directory: Path, amqp_url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running agent."""
    environment = {
        **os.environ,
        "BUSMON_SPOOL_DIR": str(directory),
        "BUSMON_PUBLISH_BUFFER_BYTES": "65536",
        "BUSMON_PUBLISH_INTERVAL_SECONDS": "0.05",
    }
    command = [sys.executable, "-c", PROGRAM, amqp_url, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as running:
        yield running


def kept(directory: Path) -> list[Path]:
    """The envelopes of observations on disk."""
    return sorted(directory.glob("analyzer/*/*.telemetry"))


def observations(paths: list[Path]) -> int:
    """How many observations envelopes hold."""
    tables = [table for path in paths for table in orjson.loads(path.read_bytes()[4:])["tables"]]
    return sum(len(row[-1]) for table in tables if table["name"] == "reply_bytes" for row in table["rows"])


def test_what_killed_agents_had_on_disk_is_counted_once(tmp_path: Path, vhost: Vhost) -> None:
    spool = tmp_path / "spool"
    with RealFleet(tmp_path, vhost.amqp_url) as fleet:
        with agent(spool, UNREACHABLE, "work") as first:
            wait_until(lambda: len(kept(spool)) >= 12, "envelopes on disk")
            first.send_signal(signal.SIGKILL)
        expected = observations(kept(spool))
        with agent(spool, vhost.amqp_url) as second:
            wait_until(lambda: fleet.totals().get("reply_bytes_count"), "some of them")
            second.send_signal(signal.SIGKILL)
        with agent(spool, vhost.amqp_url) as third:
            assert third.stdout
            assert third.stdout.readline() == "flushed\n"
            third.communicate("")
        assert third.returncode == 0
        fleet.wait_for_total("reply_bytes_count", expected)
        fleet.wait_for_total("agent_stops_total", 1)
        totals = fleet.totals()
        assert totals["reply_bytes_sum"] == expected
        assert 1 <= totals["agent_restarts_total"] <= 2
        assert totals["agent_starts_total"] in {2, 3}
        assert list((spool / "analyzer").iterdir()) == []
