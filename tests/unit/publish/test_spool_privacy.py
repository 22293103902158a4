"""Nobody but an agent's own user can read what the agent keeps on disk."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from busmon.publish.spool import Entry, Spool

from .test_presence import Life

ENTRY = Entry(1, 1, "task")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): f"{stat.S_IMODE(path.stat().st_mode):o}" for path in directory.rglob("*")}


def test_what_is_made_is_private(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "state" / "spool" / "analyzer", "source-1")
    spool.write(ENTRY, b"{}")
    assert modes(tmp_path) == {
        "state": "700",
        "state/spool": "700",
        "state/spool/analyzer": "700",
        "state/spool/analyzer/source-1": "700",
        "state/spool/analyzer/source-1/lock": "600",
        "state/spool/analyzer/source-1/000000000000000001.1.task": "600",
    }
    spool.let_go()


def test_a_mark_of_a_run_is_private(tmp_path: Path) -> None:
    life = Life(tmp_path / "spool" / "analyzer")
    life.presence.start("source-1")
    assert modes(tmp_path) == {"spool": "700", "spool/analyzer": "700", "spool/analyzer/source-1.runs": "600"}
    life.presence.stop()


def test_what_an_earlier_version_left_open_is_closed_and_still_published(tmp_path: Path) -> None:
    agent = tmp_path / "analyzer"
    spool = Spool(agent, "source-1")
    spool.write(ENTRY, b"{}")
    spool.let_go()
    (agent / "source-1").chmod(0o755)
    for path in (agent / "source-1").iterdir():
        path.chmod(0o644)
    (found,) = Spool.take_over_abandoned(agent)
    assert modes(agent) == {"source-1": "700", "source-1/lock": "600", f"source-1/{ENTRY.name}": "600"}
    assert found.read(ENTRY) == b"{}"
    found.let_go()


def test_a_link_in_the_spools_place_is_not_written_through(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "analyzer", "source-1")
    spool.write(ENTRY, b"{}")
    foreign = tmp_path / "foreign"
    foreign.write_bytes(b"kept")
    second = Entry(2, 1, "task")
    (tmp_path / "analyzer" / "source-1" / f"{second.name}.unfinished").symlink_to(foreign)
    spool.write(second, b"{}")
    assert foreign.read_bytes() == b"kept"
    assert spool.read(second) == b"{}"
    assert not (tmp_path / "analyzer" / "source-1" / second.name).is_symlink()
    spool.let_go()
