"""A directory that the agent's user can't write to costs one line, and nothing that the broker takes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from .topologies import QUEUE, Client, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534

AGENT = """
import encodings.idna, os, sys
import busmon.bus.publish.publisher, busmon.publish.rounds
from busmon import Telemetry
from busmon.catalogue import Catalogue
from busmon.publish import telemetry as module
module._catalogue(())
if os.geteuid() == 0:
    os.setgid(65534), os.setuid(65534)
for _ in range(2):
    with Telemetry("analyzer", sys.argv[1]) as telemetry:
        telemetry.counter("votes_cast_total", labelnames=["type"]).labels("upvote").inc()
        assert telemetry.flush(30)
"""


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that each user can look into: those that pytest makes are the test's user's alone."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made)
        path.chmod(0o755)
        yield path


@pytest.fixture(params=["closed to all", "of another user", "a file", "below what is closed", "a link to nothing"])
def directory(request: pytest.FixtureRequest, open_to_all: Path) -> tuple[Path, str]:
    """A spool directory that the agent can't use, and what the line says of it."""
    spool = open_to_all / "spool"
    match request.param:
        case "closed to all":
            spool.mkdir(mode=0)
            return spool, f"{spool}/analyzer: Permission denied"
        case "of another user":
            if os.geteuid():
                pytest.skip("only root makes a directory that another user can't write to")
            spool.mkdir(mode=0o755)
            return spool, f"{spool}: user {NOBODY} can't write there, user 0 owns it"
        case "a file":
            spool.write_text("")
            return spool, f"{spool}: Not a directory"
        case "below what is closed":
            spool.mkdir(mode=0)
            return spool / "deep" / "er", f"{spool}/deep/er/analyzer: Permission denied"
    if os.geteuid():
        pytest.skip("the directory is the test's own")
    spool.symlink_to(open_to_all / "nothing" / "there")
    return spool, f"{open_to_all}: user {NOBODY} can't write there, user 0 owns it"


def test_an_agent_whose_spool_cant_be_written_says_so_in_one_line_and_publishes(
    place: Place, client: Client, directory: tuple[Path, str]
) -> None:
    spool, said = directory
    ran = subprocess.run(
        [sys.executable, "-P", "-c", AGENT, place.amqp_url],
        env={**os.environ, "BUSMON_SPOOL_DIR": str(spool), "BUSMON_EXCHANGE": place.topology.exchange},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stderr.splitlines()
    assert line.startswith(f"spool_dir: {said}; ")
    assert "set BUSMON_SPOOL_DIR" in line
    rows: list[object] = []

    def take() -> bool:
        for each in client.take(QUEUE, client.ready(QUEUE)):
            for table in orjson.loads(each.body)["tables"]:
                rows.extend(table["rows"] if table["name"] == "votes_cast_total" else [])
        return len(rows) == 2

    client.until(take, "both votes")
    assert rows == [["upvote", 1], ["upvote", 1]]
