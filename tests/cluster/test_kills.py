"""Two replicated hosts are killed again and again, and a node of the cluster meanwhile: every task is counted once."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.cluster import faults
from tests.cluster.fleets import ReplicatedFleet
from tests.cluster.lab import Lab
from tests.cluster.node import Node
from tests.cluster.trial import CLIENTS, REPLICAS, Stand
from tests.fleet.replicated import wait_for_equal
from tests.patience import wait_until

pytestmark = pytest.mark.timeout(1800)

KILLS = int(os.environ.get("KILLS", "200"))
HOST_EVERY = 4
"""Of so many kills one is of a whole host, with its directory."""
NODE_EVERY = 25
NODE_DOWN_KILLS = 10
"""Kills from a node's on, before the node is started again."""
PAUSE_SECONDS = 0.5


class Killer:
    """Kills as chance has it, and starts what nobody else would.

    Args:
        nodes: of the cluster; at most one is down.
        hosts: of the replicated fleet.
        chance: decides whom a kill meets.

    Attributes:
        done: how many of what were killed.
    """

    def __init__(self, nodes: Sequence[Node], hosts: Sequence[ReplicatedFleet], chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._nodes = [*nodes]
        self._hosts = hosts
        self._chance = chance
        self._down: Node | None = None

    def kill(self, number: int) -> None:
        """Do the kill of this number, counted from 0."""
        if number % NODE_EVERY == NODE_DOWN_KILLS:
            self.start_node()
        if number % NODE_EVERY == 0:
            self._kill_node()
        elif number % HOST_EVERY == 0:
            self._kill_host()
        else:
            self._kill_worker()

    def start_node(self) -> None:
        """Start the node that is down."""
        if self._down is not None:
            self._down.start()
            self._down = None

    def _kill_node(self) -> None:
        faults.until_whole(self._nodes)
        self._down = self._chance.choice(self._nodes)
        self._down.kill()
        self.done["node"] += 1

    def _kill_host(self) -> None:
        host = self._chance.choice(self._hosts)
        host.kill()
        host.start()
        self.done["host"] += 1

    def _kill_worker(self) -> None:
        wait_until(partial(self._has_killed_worker, self._chance.choice(self._hosts)), "a worker that runs")
        self.done["worker"] += 1

    def _has_killed_worker(self, host: ReplicatedFleet) -> bool:
        """Kill one of a host's workers; return whether one was running, and not on its way to an end."""
        running = [pid for pid in host.worker_pids() if is_running(pid)]
        if not running:
            return False
        with suppress(ProcessLookupError):
            os.kill(self._chance.choice(running), signal.SIGKILL)
            return True
        return False


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that was killed and isn't waited for doesn't."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    return False


def test_kills_of_workers_hosts_and_nodes_change_nothing(stand: Stand, tmp_path: Path) -> None:
    replicas = [stand.network.hosts[number] for number in REPLICAS]
    chance = random.Random(os.environ.get("SCHEDULE_SEED", "1"))
    faults.until_whole(stand.nodes)
    clients, directory = stand.network.hosts[CLIENTS], tmp_path / "lab"
    with Lab(stand.nodes, clients, replicas, directory=directory, leading=stand.nodes[0]) as lab:
        lab.until_all_count()
        killer = Killer(stand.nodes, lab.replicated, chance)
        try:
            for number in range(KILLS):
                killer.kill(number)
                time.sleep(PAUSE_SECONDS)
        finally:
            killer.start_node()
        faults.until_whole(stand.nodes)
        lab.until_counting_goes_on(time.monotonic())
        published = lab.stop_agents()
        assert lab.until_counted(published) == [published] * len(replicas)
        assert not lab.counts.setbacks
        wait_for_equal(*lab.replicated)
    print(f"{dict(killer.done)} killed, {sum(published.values()):,.0f} tasks counted once on each host")  # noqa: T201
