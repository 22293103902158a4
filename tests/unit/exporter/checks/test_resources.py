"""Resources, of machines that a test makes up: the kernel's files in a directory of its own."""

from pathlib import Path

import pytest

from busmon.exporter.checks.resources import Resources

THRESHOLDS = {"memory": 0.9, "disk": 0.9, "cpu": 0.9}
MEMINFO = "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 250 kB\n"


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 0.0
        self.write("proc/meminfo", MEMINFO)
        self.write("proc/stat", "cpu 0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def group(self, path: str, **files: str) -> None:
        """Write a control group's files about memory, by the part of their names after `memory.`."""
        for name, text in files.items():
            self.write(f"sys/fs/cgroup/{path}/memory.{name}", text)

    def resources(self) -> Resources:
        return Resources(self.root, THRESHOLDS, self.root, lambda: self.now)

    def ratios(self, resources: Resources | None = None) -> dict[str, float]:
        return {usage.resource: usage.ratio for usage in (resources or self.resources()).read()}


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_a_limit_memory_is_the_machines(machine: Machine) -> None:
    assert machine.ratios()["memory"] == 0.75


def test_a_container_of_version_2_counts_against_its_limit_without_pages_that_can_go(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/\n")
    machine.group("", current="80000\n", max="100000\n", stat="anon 10000\ninactive_file 20000\n")
    assert machine.ratios()["memory"] == 0.6


def test_the_tightest_limit_around_counts(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/system.slice/busmon.service\n")
    machine.group("system.slice/busmon.service", current="10000\n", max="max\n")
    machine.group("system.slice", current="90000\n", max="100000\n")
    assert machine.ratios()["memory"] == 0.9


def test_a_container_of_version_1_counts_against_its_limit(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:memory:/docker/abc\n1:name=systemd:/\n")
    machine.group(
        "memory/docker/abc",
        usage_in_bytes="70000\n",
        limit_in_bytes="100000\n",
        stat="inactive_file 1\ntotal_inactive_file 20000\n",
    )
    assert machine.ratios()["memory"] == 0.5


def test_version_1s_number_for_no_limit_is_none(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "4:memory:/\n")
    machine.group("memory", usage_in_bytes="70000\n", limit_in_bytes="9223372036854771712\n")
    assert machine.ratios()["memory"] == 0.75


def test_cpu_is_the_share_used_over_the_last_minute(machine: Machine) -> None:
    resources = machine.resources()
    for now, ticks, share in (
        (0, "0 0 0 0 0", None),
        (30, "30 5 15 40 10", None),
        (60, "130 5 15 40 10", 0.75),
        (90, "130 5 15 140 10", 0.5),
        (120, "130 5 15 240 10", 0.0),
    ):
        machine.now = now
        machine.write("proc/stat", f"cpu {ticks} 0 0 0 0 0\n")
        assert machine.ratios(resources).get("cpu") == share


def test_a_cpu_quota_counts_for_more_than_the_machine(machine: Machine) -> None:
    machine.write("proc/self/cgroup", "0::/\n")
    machine.write("sys/fs/cgroup/cpu.max", "50000 100000\n")
    machine.write("sys/fs/cgroup/cpu.stat", "usage_usec 1000000\nuser_usec 1\n")
    resources = machine.resources()
    machine.now = 60.0
    machine.write("sys/fs/cgroup/cpu.stat", "usage_usec 13000000\nuser_usec 1\n")
    assert machine.ratios(resources)["cpu"] == pytest.approx(0.4)


def test_the_disk_is_the_registry_directorys(machine: Machine) -> None:
    assert 0 < machine.ratios()["disk"] <= 1


def test_what_the_kernel_does_not_say_is_left_out(tmp_path: Path) -> None:
    resources = Resources(tmp_path / "nowhere", THRESHOLDS, tmp_path / "nowhere")
    assert resources.read() == ()


@pytest.mark.parametrize("text", ["", "\n", "max\n", "word\n", "-1\n", "1.5 kB\n", "\x00"])
def test_a_file_of_another_form_is_left_out(machine: Machine, text: str) -> None:
    machine.write("proc/self/cgroup", f"0::/\n{text}")
    for name in ("memory.current", "memory.max", "memory.stat", "cpu.max", "cpu.stat"):
        machine.write(f"sys/fs/cgroup/{name}", text)
    machine.write("proc/meminfo", text)
    assert machine.ratios(machine.resources()).keys() <= {"disk"}
