"""One trial: a fault of a node or a host while agents count tasks, and what is published and counted in the end."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.cluster import faults
from tests.cluster.faults import BOTH, FLEETS, LEADER, OWNER, Case, Stage
from tests.cluster.fleets import ReplicatedFleet
from tests.cluster.lab import Lab
from tests.cluster.network import Network
from tests.cluster.node import Node, cluster

NODES = (1, 2, 3)
CLIENTS = 10
REPLICAS = (11, 12)
STEADY_SECONDS = 5
AFTERWARDS_SECONDS = 10


class Stand(NamedTuple):
    """The network, the cluster and the hosts that run fleets and agents."""

    network: Network
    nodes: list[Node]

    @property
    def version(self) -> str:
        """RabbitMQ's version."""
        return self.nodes[0].ctl("version").strip()


class Measured(NamedTuple):
    """A row of the table, the tasks of each agent, and what each exporter shows of them."""

    case: Case
    total_gap: float
    worst_gap: float
    usual_gap: float
    published: Mapping[str, float]
    counted: Sequence[Mapping[str, float]]
    setbacks: Sequence[str]
    is_repaired: bool

    @property
    def faults(self) -> list[str]:
        """List the exporters that show something else than what was published, and counters that went down."""
        wrong = [f"{self.published} published, {each} counted" for each in self.counted if each != self.published]
        return [*wrong, *self.setbacks]


@contextmanager
def stand(directory: Path) -> Iterator[Stand]:
    """Run a cluster on a network of its own, with its files in a directory."""
    with (
        Network((*NODES, CLIENTS, *REPLICAS)) as network,
        cluster([network.hosts[number] for number in NODES], directory) as nodes,
    ):
        yield Stand(network, nodes)


def run(stand: Stand, directory: Path, leading: Node, case: Case) -> Measured:
    """Inject a fault into the node or host that has a role, take it away, and wait until all is counted.

    Args:
        stand: the cluster.
        directory: of the fleets and the agents, which are new.
        leading: leads the queues at first.
        case: what happens, and to whom.
    """
    faults.until_whole(stand.nodes)
    hosts, fault = stand.network.hosts, case.fault
    replicas = [hosts[number] for number in REPLICAS] if case.is_replicated else []
    with Lab(stand.nodes, hosts[CLIENTS], replicas, directory=directory, leading=leading) as lab:
        lab.until_all_count()
        stage = Stage(stand.network, stand.nodes, _victim(lab, case))
        time.sleep(STEADY_SECONDS)
        began = time.monotonic()
        usual = lab.counts.gaps(began - STEADY_SECONDS, began)
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
        gaps = lab.counts.gaps(began, ended)
    return Measured(case, *gaps, usual.worst, published, counted, lab.counts.setbacks, is_repaired=bool(repaired))


def _victim(lab: Lab, case: Case) -> Node | ReplicatedFleet:
    """Return the node or host to have the fault, a single fleet moved to where the role has it."""
    if case.role == OWNER:
        return lab.owner()
    leader = lab.leader()
    if case.is_replicated:
        return leader
    others = [node for node in lab.nodes if node is not leader]
    lab.move_fleet([leader] if case.role == BOTH else others)
    fleets = lab.consuming()
    if case.role in {LEADER, BOTH}:
        return leader
    return fleets if case.role == FLEETS else next(node for node in others if node is not fleets)
