"""The faults of a node, of a host and of the network that the suite injects, each with its remedy."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from tests.cluster.fleets import ReplicatedFleet
from tests.cluster.network import Network
from tests.cluster.node import BOOT_SECONDS, Node

LEADER, FLEETS = "leads the queues", "serves the fleet's connection"
BOTH, OTHER = "does both", "does neither"
OWNER = "owns shards"
KILL = "killed (SIGKILL)"
REPAIR_SECONDS = 60
"""How long a node may take to come back by itself; then it is restarted, as an operator would do."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The cluster, its network and the node or host that has the fault."""

    network: Network
    nodes: list[Node]
    victim: Node | ReplicatedFleet

    @property
    def others(self) -> list[int]:
        """The numbers of the other nodes' hosts."""
        return [node.host.number for node in self.nodes if node is not self.victim]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        name: as the table has it.
        roles: of the node, one case each.
        replicated: roles of the node, or of a host, while two replicated hosts count; one case each.
        begin: injects the fault.
        end: takes the fault away.
        lasts_seconds: for how long the fault stays at least.
    """

    name: str
    roles: tuple[str, ...]
    begin: Callable[[Stage], None]
    end: Callable[[Stage], None]
    lasts_seconds: float
    replicated: tuple[str, ...] = ()


class Case(NamedTuple):
    """One case of a fault.

    Attributes:
        role: of the node or host that has the fault.
        is_replicated: two replicated hosts count, in place of one.
    """

    fault: Fault
    role: str
    is_replicated: bool

    @property
    def victim(self) -> str:
        """Word the role, as the table has it."""
        return f"{'host' if self.role == OWNER else 'node'} that {self.role}{', replicated' * self.is_replicated}"

    def __str__(self) -> str:
        """Name the case."""
        return f"{self.fault.name}, {self.victim}"


def kill(stage: Stage) -> None:
    """Kill the node, or the host with its directory."""
    stage.victim.kill()


def start(stage: Stage) -> None:
    """Start the node or the host."""
    stage.victim.start()


def stop(stage: Stage) -> None:
    """Stop the node in order."""
    stage.victim.signal(signal.SIGTERM)
    stage.victim.wait()


def restart_all(stage: Stage) -> None:
    """Stop and start each node in order, the victim first, each once the one before serves again."""
    for node in sorted(stage.nodes, key=lambda node: node is not stage.victim):
        until_whole(stage.nodes)
        node.signal(signal.SIGTERM)
        node.wait()
        node.start()
        node.await_startup()


def leave(_stage: Stage) -> None:
    """Leave all as it is."""


def part(stage: Stage) -> None:
    """Part the node from the other nodes; clients still reach the node."""
    stage.network.part(stage.victim.host.number, stage.others)


def join(stage: Stage) -> None:
    """Join the node and the others again."""
    stage.network.join(stage.victim.host.number, stage.others)


def unplug(stage: Stage) -> None:
    """Drop every packet to and from the node or the host."""
    stage.network.unplug(stage.victim.host.number)


def plug_in(stage: Stage) -> None:
    """Let the packets pass again."""
    stage.network.plug_in(stage.victim.host.number)


def freeze(stage: Stage) -> None:
    """Stop the processes of the node or the host: its kernel accepts connections, and nothing answers."""
    stage.victim.signal(signal.SIGSTOP)


def thaw(stage: Stage) -> None:
    """Let the processes go on."""
    stage.victim.signal(signal.SIGCONT)


FAULTS = (
    Fault(KILL, (LEADER, FLEETS, BOTH, OTHER), kill, start, 20, (LEADER, OWNER)),
    Fault("stopped in order, started again", (BOTH,), stop, start, 10),
    Fault("all nodes restarted in turn", (FLEETS,), restart_all, leave, 0),
    Fault("parted from the other nodes", (LEADER, FLEETS), part, join, 90),
    Fault("vanished: packets are dropped", (LEADER, FLEETS, BOTH), unplug, plug_in, 40, (LEADER,)),
    Fault("cut off for longer: packets are dropped", (), unplug, plug_in, 120, (OWNER,)),
    Fault("frozen (SIGSTOP)", (LEADER, FLEETS, BOTH), freeze, thaw, 40, (OWNER,)),
)
CASES = [
    *(Case(fault, role, is_replicated=False) for fault in FAULTS for role in fault.roles),
    *(Case(fault, role, is_replicated=True) for fault in FAULTS for role in fault.replicated),
]


def until_whole(nodes: list[Node]) -> list[Node]:
    """Wait until every node runs in the cluster and each queue could do without any one of them.

    Returns:
        The nodes that did not come back by themselves and were restarted.
    """
    repaired = [node for node in nodes if not _comes_back(node)]
    for node in nodes:
        node.await_startup()
    deadline = time.monotonic() + BOOT_SECONDS
    for node in nodes:
        while not _is_spare(node):
            assert time.monotonic() < deadline, f"{node.name} stays critical for a quorum, see {node.log}"
            time.sleep(1)
    return repaired


def _comes_back(node: Node) -> bool:
    """Tell if a node that runs comes back by itself; restart it if not."""
    deadline = time.monotonic() + REPAIR_SECONDS
    while not node.has_started():
        if time.monotonic() > deadline:
            node.kill()
            node.start()
            return False
        time.sleep(0.5)
    return True


def _is_spare(node: Node) -> bool:
    try:
        node.ctl("check_if_node_is_quorum_critical", program="rabbitmq-queues")
    except AssertionError:
        return False
    return True
