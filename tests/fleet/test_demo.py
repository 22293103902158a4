"""`busmon demo`, from a checkout in a path with a space, which then marks all that it starts."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from busmon.demo.broker import PrivateNode
from busmon.demo.rabbitmq import LOOPBACK, free_ports
from tests.conftest import Vhost
from tests.patience import PATIENCE_SECONDS

REPO = Path(__file__).resolve().parents[2]
SECONDS = 150


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo") / "a checkout"
    for part in ("busmon", "topology"):
        shutil.copytree(REPO / part, directory / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPO / "pyproject.toml", directory)
    return directory


def start(checkout: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
    listen = f"{LOOPBACK}:{free_ports(1)[0]}"  # two demos at a time would race for the default port
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "busmon", "demo", *arguments],
        env={**inherited, "BUSMON_LISTEN": listen, "PYTHONPATH": str(checkout), **environment},
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def play(checkout: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit status and what was printed."""
    with start(checkout, *arguments, **environment) as process:
        printed, _ = process.communicate(timeout=SECONDS)
    return process.returncode, printed


def processes_of(checkout: Path) -> list[str]:
    mark = str(checkout).encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            if command and mark in command + (process / "environ").read_bytes():
                found.append(command.replace(b"\0", b" ").decode())
    return found


def assert_nothing_is_left(checkout: Path) -> None:
    # A killed process stays in /proc until the kernel has reaped it.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while processes_of(checkout) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(checkout) == []
    assert not (checkout / ".state").exists()


def test_unattended_it_ends_with_every_total_equal_twice_in_a_row_and_nothing_left(checkout: Path) -> None:
    for _ in range(2):
        status, printed = play(checkout, "--seconds", "3")
        assert status == 0, printed
        assert "starting a private RabbitMQ node" in printed
        assert "tasks_processed_total" in printed
        assert "totals are equal" in printed
        assert_nothing_is_left(checkout)


def test_a_broker_that_is_named_is_used_and_left_as_it_was(checkout: Path, vhost: Vhost, node: PrivateNode) -> None:
    def objects() -> list[str]:
        return [
            node.rabbitmqctl("--silent", f"list_{kind}", "--vhost", vhost.name, "name")
            for kind in ("queues", "exchanges")
        ]

    before = objects()
    status, printed = play(checkout, "--seconds", "3", BUSMON_AMQP_URL=vhost.amqp_url)
    assert status == 0, printed
    assert "guest:***@" in printed
    assert objects() == before
    assert_nothing_is_left(checkout)


def test_an_address_that_is_taken_is_said_and_another_used(checkout: Path, vhost: Vhost) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        status, printed = play(checkout, "--seconds", "1", BUSMON_AMQP_URL=vhost.amqp_url, BUSMON_LISTEN=listen)
    assert status == 0, printed
    assert f"{listen} is taken, so the exporter serves at 127.0.0.1:" in printed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["starting a private RabbitMQ node", "starting a simulated platform"])
def test_a_signal_ends_all_that_it_started(checkout: Path, moment: str, number: signal.Signals) -> None:
    with start(checkout) as process:
        assert process.stdout
        next(line for line in process.stdout if moment in line)
        process.send_signal(number)
        printed = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 0, printed
    assert "Traceback" not in printed
    assert_nothing_is_left(checkout)


def test_what_was_started_is_stopped_in_order(checkout: Path, vhost: Vhost) -> None:
    with start(checkout, BUSMON_AMQP_URL=vhost.amqp_url) as process:
        assert process.stdout
        next(line for line in process.stdout if "envelopes/s" in line)
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=SECONDS)[0]
    stops = [
        line.split(": ")[1].split(" '")[0] for line in printed.splitlines() if "stopping" in line or "deleting" in line
    ]
    assert stops == ["stopping the simulator", "stopping the fleet", "deleting"]
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "status", "line"),
    [
        ((), {"BUSMON_AMQP_URL": "amqp://127.0.0.1:1/"}, 1, "busmon: RabbitMQ at 127.0.0.1:1: "),
        (("--seconds", "soon"), {}, 2, "busmon demo: argument --seconds: 'soon' isn't a number from 1 to 86400; see"),
        (("--seconds", "nan"), {}, 2, "busmon demo: argument --seconds: 'nan' isn't a number from 1 to 86400; see"),
        ((), {"BUSMON_WORKERS": "many"}, 2, "busmon: workers from environment BUSMON_WORKERS: 'many' is not"),
    ],
)
def test_what_is_wrong_is_one_line(
    checkout: Path, arguments: tuple[str, ...], environment: dict[str, str], status: int, line: str
) -> None:
    found, printed = play(checkout, *arguments, **environment)
    assert found == status
    assert printed.splitlines()[-1].startswith(line)
    assert "Traceback" not in printed
    assert_nothing_is_left(checkout)


def test_a_fleet_that_dies_ends_the_demo_with_its_last_line(checkout: Path, vhost: Vhost) -> None:
    missing = checkout / "no such catalogue.toml"
    status, printed = play(checkout, BUSMON_AMQP_URL=vhost.amqp_url, BUSMON_CATALOGUE=str(missing))
    assert status == 1
    assert "busmon: the fleet ended with status 2: busmon: " in printed
    assert "no such catalogue.toml" in printed
    assert_nothing_is_left(checkout)
