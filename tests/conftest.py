"""Brokers for the tests: private RabbitMQ nodes, shared where a test leaves them whole, and gone with the run.

The xdist workers of a run share one node: the first that needs it starts it, and each holds a lease of it until its
session ends. A test's virtual host is its own, so tests on the shared node don't meet.
"""

import fcntl
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from busmon.demo.broker import PrivateNode

# A busy machine exceeds any time that an example may take.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# Names the run's temporary directory in the environment of every process that a test starts; a private node has an
# environment of its own, and its home there. So the end of the run can tell what was left behind.
RUN_VARIABLE = "PYTEST_RUN_DIRECTORY"


class Vhost(NamedTuple):
    """A virtual host and how to reach it as guest, who has full permissions there."""

    name: str
    amqp_url: str
    management_url: str


@pytest.fixture(autouse=True)
def unconfigured_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the log as it is: a command that runs in the tests' process would configure it for all later tests."""
    monkeypatch.setattr("busmon.logs.configure", lambda *_, **__: None)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[PrivateNode]:
    """The run's shared node; a test that kills, stops or alarms its broker takes `dedicated_node`."""
    base = tmp_path_factory.getbasetemp()
    directory = (base if worker_id == "master" else base.parent) / "broker"
    directory.mkdir(exist_ok=True)
    shared = PrivateNode(directory)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shared.join():
            shared.start()
    yield shared
    shared.leave()


@pytest.fixture
def vhost(node: PrivateNode) -> Iterator[Vhost]:
    """A fresh virtual host on the shared node."""
    name = f"test-{secrets.token_hex(6)}"
    node.vhost(name)
    yield Vhost(name, node.amqp_url.replace("%2F", name), node.management_url)
    node.management("DELETE", f"/api/vhosts/{name}")


@pytest.fixture
def dedicated_node(tmp_path: Path) -> Iterator[PrivateNode]:
    """A node of the test's own."""
    with PrivateNode(tmp_path / "broker") as own:
        yield own


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Marks what this run starts; an xdist worker inherits its controller's mark.

    A shell that starts the run in the background has it ignore SIGINT, `nohup` SIGHUP; so would all that tests start.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if not hasattr(config, "workerinput"):
        os.environ[RUN_VARIABLE] = f"{config._tmp_path_factory.getbasetemp()}/"  # type: ignore[attr-defined]
        # What an agent of one run keeps on disk must not reach the next run's broker.
        os.environ["BUSMON_SPOOL_DIR"] = f"{os.environ[RUN_VARIABLE]}spool"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fails the run that leaves a process behind, and ends that process."""
    if hasattr(session.config, "workerinput"):
        return
    deadline = time.monotonic() + 30
    while (left := _left_behind()) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid, command in left.items():
        sys.stderr.write(f"\nleft behind by the tests: process {pid}: {command}\n")
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _left_behind() -> dict[int, str]:
    mark = os.environ[RUN_VARIABLE].encode()
    left = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (process / "environ").read_bytes():
                left[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return left
