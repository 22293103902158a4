"""The compose file in a real engine: it comes up, counts exactly through a kill, stops in order and leaves nothing."""

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from busmon.demo import audit
from tests.engine.engine import Engine, Stack

WAIT = ("--detach", "--wait", "--wait-timeout", "400")
PATIENCE_SECONDS = 300
SETTLED_SECONDS = 270
"""Longer than any alert about a missing dependency waits."""

OF_THE_MACHINE = {"HighCpuUsage", "HighMemoryUsage", "HostDiskFilling"}
PROMETHEUS = "http://prometheus:9090/api/v1"


@pytest.fixture(scope="module")
def demo(engine: Engine) -> Iterator[Stack]:
    """The stack with its simulated agents, until the module ends."""
    stack = Stack(engine)
    stack.compose("build", "busmon")
    stack.compose("--profile", "demo", "up", *WAIT)
    yield stack
    stack.compose("--profile", "*", "down", "--volumes", "--timeout", "60")


def ask(stack: Stack, query: str, prometheus: str = PROMETHEUS) -> list[dict[str, Any]]:
    """Ask Prometheus an instant query."""
    answer = json.loads(stack.get(f"{prometheus}/query?{urllib.parse.urlencode({'query': query})}"))
    return answer["data"]["result"]  # type: ignore[no-any-return]  # as the API has it


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(2)
    return found


def test_every_container_runs_and_is_healthy(demo: Stack) -> None:
    states = {name: each["State"] for name, each in demo.containers().items()}
    assert (states.pop("definitions")["Status"], "agents" in states) == ("exited", True)
    assert {name: state["Status"] for name, state in states.items()} == dict.fromkeys(states, "running")
    assert {state["Health"]["Status"] for state in states.values()} == {"healthy"}


def test_the_fleet_is_ready_with_every_dependency(demo: Stack) -> None:
    ready = until(lambda: _ready(demo), "the fleet to be ready")
    assert ready["services"] == {"rabbitmq": "connected", "postgres": "connected", "redis": "connected"}
    # How busy the machine is doesn't depend on the stack.
    assert [reason for reason in ready["degraded"] if not reason.startswith("cpu ")] == []


def _ready(stack: Stack) -> dict[str, Any] | None:
    document: dict[str, Any] = json.loads(stack.get("http://127.0.0.1:9797/ready"))
    return document if document["status"] == "ready" else None


def test_every_target_is_scraped(demo: Stack) -> None:
    until(lambda: {row["value"][1] for row in ask(demo, "up")} == {"1"}, "every target to be up")
    assert {row["metric"]["job"] for row in ask(demo, "up")} == {
        "busmon",
        "rabbitmq",
        "node",
        "prometheus",
        "alertmanager",
    }


def test_node_exporter_sees_the_hosts_network(demo: Stack) -> None:
    devices = {
        row["metric"]["device"] for row in until(lambda: ask(demo, "node_network_up"), "node_exporter's figures")
    }
    assert "docker0" in devices


def test_only_this_host_reaches_what_the_stack_publishes(demo: Stack) -> None:
    published = [
        binding["HostIp"]
        for each in demo.containers().values()
        for bindings in each["NetworkSettings"]["Ports"].values()
        for binding in bindings or ()
    ]
    assert len(published) >= 6
    assert set(published) == {"127.0.0.1"}


def test_no_log_and_no_memory_grows_without_bound(demo: Stack) -> None:
    for name, each in demo.containers().items():
        assert each["HostConfig"]["LogConfig"]["Config"].get("max-size"), name
        assert each["HostConfig"]["Memory"] > 0, name
    limit = int(demo.compose("exec", "-T", "rabbitmq", "rabbitmqctl", "eval", "vm_memory_monitor:get_memory_limit()."))
    assert limit == 1200 * 2**20


def test_the_image_runs_as_nobody_in_particular_and_has_a_registry_of_its_own(demo: Stack) -> None:
    assert demo.compose("exec", "-T", "busmon", "id", "--user").strip() == "10001"
    listed = demo.compose("exec", "-T", "busmon", "stat", "--format", "%u %a", "/var/lib/busmon/registry")
    assert listed.split() == ["10001", "700"]


def test_totals_are_exact_through_a_kill_of_the_whole_container(demo: Stack) -> None:
    before = demo.containers()["busmon"]["State"]
    demo.engine.inside("kill", "-9", str(before["Pid"]))
    until(lambda: demo.containers()["busmon"]["State"]["StartedAt"] != before["StartedAt"], "a new container")
    until(lambda: demo.containers()["busmon"]["State"]["Health"]["Status"] == "healthy", "the fleet to be back")

    demo.compose("stop", "agents")
    lines = log(demo, "agents")
    published = dict(re.findall(r"^(\w+_total)\s+([\d,]+)$", lines, re.MULTILINE))
    assert len(published) > 20
    expected = {name: float(total.replace(",", "")) for name, total in published.items()}
    until(lambda: scraped(demo, expected) == expected, "all that was published to be scraped")


def log(stack: Stack, service: str) -> str:
    """Return a service's log without what moves a terminal's cursor."""
    return re.sub(r"\x1b\[\d*[A-Z]|\r", "", stack.compose("logs", "--no-log-prefix", "--no-color", service))


def scraped(stack: Stack, names: dict[str, float]) -> dict[str, float]:
    series = audit.totals(stack.get("http://127.0.0.1:9797/metrics"), set(names))
    return {name: sum(values.values()) for name, values in series.items()}


def test_nobody_is_paged_over_a_stack_in_order(demo: Stack) -> None:
    demo.compose("--profile", "demo", "start", "agents")
    time.sleep(SETTLED_SECONDS)
    firing = ask(demo, 'ALERTS{alertstate="firing",tier=~"P1|P2"}')
    assert {row["metric"]["alertname"] for row in firing} - OF_THE_MACHINE == set()


def test_alerts_reach_the_demos_inbox(demo: Stack) -> None:
    told = until(lambda: _told(demo, "Watchdog"), "the Watchdog to be told")
    assert told.startswith("deadman: firing Watchdog (none) ")
    assert ask(demo, "sum(alertmanager_notifications_failed_total)")[0]["value"][1] == "0"


def _told(stack: Stack, alert: str) -> str:
    return next((line for line in log(stack, "inbox").splitlines() if f" {alert} " in line), "")


def test_all_end_in_order_and_leave_no_volume_without_a_name(demo: Stack) -> None:
    demo.compose("--profile", "*", "stop", "--timeout", "60")
    ended = {name: each["State"]["ExitCode"] for name, each in demo.containers().items()}
    assert {name: code for name, code in ended.items() if code == 137} == {}
    assert ended["busmon"] == ended["agents"] == 0
    volumes = demo.engine.docker("volume", "ls", "--quiet").split()
    assert [name for name in volumes if not name.startswith("busmon_")] == []
