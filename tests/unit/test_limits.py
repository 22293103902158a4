"""A limit that is too low ends the process in one line, before anything is opened."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = [("up",), ("worker", "--shards", "0,1,2,3"), ("exporter",)]


def run(tmp_path: Path, *command: str, **limits: int) -> subprocess.CompletedProcess[str]:
    """Run a command under limits, soft and hard."""
    registry = tmp_path / "registry"
    registry.mkdir(mode=0o700)
    for shard in range(4):
        (registry / f"shard{shard}.journal").touch()

    def limit() -> None:
        for name, value in limits.items():
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))

    return subprocess.run(
        [sys.executable, "-P", "-m", "busmon", *command],
        env={
            "BUSMON_REGISTRY_DIR": str(registry),
            "BUSMON_LISTEN": "127.0.0.1:0",
            "BUSMON_AMQP_URL": "amqp://127.0.0.1:1/",
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_too_few_open_files_are_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = run(tmp_path, *command, NOFILE=64)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "busmon: the limit of open files is 64 (`ulimit -Hn`): 4 shards need 128; "
        "raise it (LimitNOFILE= in systemd, --ulimit nofile= in Docker)\n"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: str(command[0]))
def test_files_that_may_not_be_large_enough_are_named(tmp_path: Path, command: tuple[str, ...]) -> None:
    ended = run(tmp_path, *command, FSIZE=1 << 20)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("busmon: the limit of a file's size is 1,048,576 bytes (`ulimit -f`): ")
