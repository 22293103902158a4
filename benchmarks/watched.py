"""A fleet with the settings as shipped, and what its processes take: memory, CPU time, bytes of the log."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import children

from busmon import status
from busmon.bus.topology import topology as topologies
from busmon.settings import Settings

START_SECONDS = 60.0
STOP_SECONDS = 60.0
TOTAL = "agent_starts_total"
"""The counter whose values `Fleet.totals` asks for."""

TOPOLOGY = topologies.load(None, Settings().exchange)
SHARDS = TOPOLOGY.shards


class Fleet:
    """`busmon up` with the settings as shipped, on a virtual host of its own."""

    def __init__(self, directory: Path, amqp_url: str) -> None:
        directory.mkdir()
        self.registry_dir = directory / "registry"
        self._log = directory / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BUSMON_")}
        environment |= {
            "BUSMON_AMQP_URL": amqp_url,
            "BUSMON_REGISTRY_DIR": str(self.registry_dir),
            "BUSMON_LISTEN": "127.0.0.1:0",
        }
        busmon = [sys.executable, "-P", "-m", "busmon"]
        subprocess.run([*busmon, "topology", "declare"], env=environment, check=True, stdout=subprocess.DEVNULL)
        with self._log.open("wb") as log:
            self.process = children.start([*busmon, "up"], env=environment, stdout=log, stderr=log)
        try:
            self.address = self._wait_for_start()
        except BaseException:  # nobody else can close a fleet that didn't start
            self.close()
            raise

    def close(self) -> None:
        """End it in order."""
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> bytes:
        """Get a page of the exporter's."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=120) as answer:
            content: bytes = answer.read()
        return content

    def scrape_seconds(self) -> float:
        """Measure a scrape of everything."""
        began = time.perf_counter()
        self.get("/metrics")
        return time.perf_counter() - began

    def resident(self) -> dict[str, int]:
        """Measure the memory of each process, by name."""
        return {name: _resident(pid) for name, pid in self._processes().items()}

    def log_bytes(self) -> int:
        """Measure the log that all processes have written."""
        return self._log.stat().st_size

    def cpu_seconds(self) -> dict[str, float]:
        """Measure the CPU time that each process took since its start, by name."""
        return {name: _cpu_seconds(pid) for name, pid in self._processes().items()}

    def _processes(self) -> dict[str, int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        named = {worker.pid: f"worker {worker.worker}" for worker in status.read(self.registry_dir).workers}
        return {named.get(int(child), "exporter"): int(child) for child in children}

    def totals(self) -> dict[str, int]:
        """Ask the exporter for the starts that are counted, by agent."""
        lines = self.get(f"/metrics?name[]={TOTAL}").decode().splitlines()
        counted = (line.rpartition(" ") for line in lines if line.startswith(f"{TOTAL}{{"))
        return {labels.split('"')[1]: int(float(value)) for labels, _, value in counted}

    def has_counted(self, shard: int, source: str) -> bool:
        """Tell if the source's starts are counted in the shard."""
        return f'"{source}"'.encode() in (self.registry_dir / f"counter_shard{shard}.db").read_bytes()

    def restarts(self) -> int:
        """Count the processes that were replaced."""
        supervisor = status.read(self.registry_dir).supervisor
        return sum(supervisor.restarts.values()) if supervisor else 0

    def _wait_for_start(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            shards = [shard for worker in status.read(self.registry_dir).workers for shard in worker.shards]
            started = [line for line in self._log.read_bytes().splitlines() if b"server.started" in line]
            if started and len(shards) == SHARDS and all(shard.state == "consuming" for shard in shards):
                return str(json.loads(started[-1])["address"])
            time.sleep(0.1)
        message = f"the fleet didn't start: {self._log.read_text()[-2000:]}"
        raise RuntimeError(message)


def _resident(pid: int) -> int:
    """Read how much memory the process has, in bytes; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _cpu_seconds(pid: int) -> float:
    """Read how much CPU time the process took, in seconds; 0 once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
