"""One trial: a fault of a node while agents count tasks, and what is published and counted in the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster import faults
from tests.cluster.faults import BOTH, FLEETS, LEADER, Fault, Stage
from tests.cluster.lab import Lab
from tests.cluster.network import Network
from tests.cluster.node import Node, cluster

NODES = (1, 2, 3)
CLIENTS = 10
STEADY_SECONDS = 5
AFTERWARDS_SECONDS = 10


class Stand(NamedTuple):
    """The network, the cluster and the host that runs fleet and agents."""

    network: Network
    nodes: list[Node]

    @property
    def version(self) -> str:
        """RabbitMQ's version."""
        return self.nodes[0].ctl("version").strip()


class Measured(NamedTuple):
    """A row of the table, and the tasks of each agent."""

    fault: str
    role: str
    total_gap: float
    worst_gap: float
    usual_gap: float
    published: dict[str, float]
    counted: dict[str, float]
    is_repaired: bool


@contextmanager
def stand(directory: Path) -> Iterator[Stand]:
    """Run a cluster on a network of its own, with its files in a directory."""
    with (
        Network((*NODES, CLIENTS)) as network,
        cluster([network.hosts[number] for number in NODES], directory) as nodes,
    ):
        yield Stand(network, nodes)


def run(stand: Stand, directory: Path, leading: Node, fault: Fault, role: str) -> Measured:
    """Inject a fault into the node that has a role, take it away, and wait until all is counted.

    Args:
        stand: the cluster.
        directory: of the fleet and the agents, which are new.
        leading: leads the queues at first.
        fault: what happens.
        role: of the node that it happens to.
    """
    faults.until_whole(stand.nodes)
    with Lab(stand.nodes, stand.network.hosts[CLIENTS], directory, leading) as lab:
        lab.until_all_count()
        stage = Stage(stand.network, stand.nodes, _victim(lab, role))
        time.sleep(STEADY_SECONDS)
        began = time.monotonic()
        usual = lab.gaps(began - STEADY_SECONDS, began)
        try:
            fault.begin(stage)
            time.sleep(max(0.0, began + fault.lasts_seconds - time.monotonic()))
        finally:
            fault.end(stage)
        repaired = faults.until_whole(stand.nodes)
        lab.until_counting_goes_on(time.monotonic())
        time.sleep(AFTERWARDS_SECONDS)
        ended = time.monotonic()
        published = lab.stop_agents()
        counted = lab.until_counted(published)
        gaps = lab.gaps(began, ended)
    return Measured(fault.name, role, *gaps, usual.worst, published, counted, is_repaired=bool(repaired))


def _victim(lab: Lab, role: str) -> Node:
    """Return the node to have the fault, the fleet moved to where the role has it."""
    leader = lab.leader()
    others = [node for node in lab.nodes if node is not leader]
    lab.move_fleet([leader] if role == BOTH else others)
    fleets = lab.consuming()
    if role in {LEADER, BOTH}:
        return leader
    return fleets if role == FLEETS else next(node for node in others if node is not fleets)
