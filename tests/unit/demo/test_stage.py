"""The removal of directories that killed demos left, and of nothing else."""

import os
import time
from pathlib import Path

import pytest

from busmon import files
from busmon.demo import stage


def left(state: Path, name: str, seconds: float = 3600) -> Path:
    """A directory that was last changed so long ago."""
    path = state / name
    path.mkdir()
    (path / "registry").mkdir()
    os.utime(path, times=(time.time() - seconds,) * 2)
    return path


def test_only_what_a_killed_demo_left_is_removed(tmp_path: Path) -> None:
    gone = left(tmp_path, "busmon-demo-a1")
    young, others = left(tmp_path, "busmon-demo-b2", 5), left(tmp_path, "demo-c3")
    running = left(tmp_path, "busmon-demo-d4")
    lock = os.open(running, os.O_RDONLY)
    assert files.try_lock(lock)
    (tmp_path / "busmon-demo-link").symlink_to(others)
    stage.remove_left(tmp_path)
    os.close(lock)
    assert not gone.exists()
    assert young.exists()
    assert others.exists()
    assert running.exists()


def test_what_is_another_users_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = left(tmp_path, "busmon-demo-a1")
    monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
    stage.remove_left(tmp_path)
    assert path.exists()


def test_a_directory_whose_node_runs_stays(tmp_path: Path) -> None:
    path = left(tmp_path, "busmon-demo-a1")
    (path / "rabbitmq").mkdir()
    os.mkfifo(path / "rabbitmq" / "lease")
    os.utime(path, times=(time.time() - 3600,) * 2)
    reader = os.open(path / "rabbitmq" / "lease", os.O_RDONLY | os.O_NONBLOCK)
    stage.remove_left(tmp_path)
    assert path.exists()
    os.close(reader)
    stage.remove_left(tmp_path)
    assert not path.exists()
