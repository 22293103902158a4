"""The faults that happen to the hosts, and their times, as a seed decides."""

import random
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Fault(StrEnum):
    """One fault of the soak."""

    KILL_WORKER = "SIGKILL of a worker"
    KILL_COMMITTING = "SIGKILL of a worker, as its commit is marked"
    KILL_PUBLISHER = "SIGKILL of a publisher"
    KILL_EXPORTER = "SIGKILL of the exporter"
    KILL_SUPERVISOR = "SIGKILL of the supervisor"
    KILL_BROKER = "SIGKILL of the broker"
    KILL_HOST = "SIGKILL of a whole host, its directory deleted"
    PAUSE_WORKER = "SIGSTOP of a worker beyond its heartbeats, SIGCONT"
    TERM_WORKER = "SIGTERM of a worker"
    TERM_PUBLISHER = "SIGTERM of a publisher"
    RESTART_FLEET = "SIGTERM of the supervisor"
    RESTART_BROKER = "orderly restart of the broker"
    CLOSE_CONNECTIONS = "all connections closed by the broker"


class Mix(NamedTuple):
    """The shares of faults.

    Attributes:
        kills: the share of all kills, by fault.
        others: the number of other faults for each kill.
    """

    kills: Mapping[Fault, float]
    others: Mapping[Fault, float]


ONE_HOST = Mix(
    {
        Fault.KILL_WORKER: 0.46,
        Fault.KILL_COMMITTING: 0.24,
        Fault.KILL_PUBLISHER: 0.12,
        Fault.KILL_EXPORTER: 0.08,
        Fault.KILL_SUPERVISOR: 0.08,
        Fault.KILL_BROKER: 0.02,
    },
    {
        Fault.PAUSE_WORKER: 0.03,
        Fault.TERM_WORKER: 0.03,
        Fault.TERM_PUBLISHER: 0.02,
        Fault.RESTART_FLEET: 0.02,
        Fault.RESTART_BROKER: 0.01,
        Fault.CLOSE_CONNECTIONS: 0.02,
    },
)
HOSTS_SHARE = 0.25
SEVERAL_HOSTS = Mix(
    {
        Fault.KILL_HOST: HOSTS_SHARE,
        **{fault: share * (1 - HOSTS_SHARE) for fault, share in ONE_HOST.kills.items()},
    },
    ONE_HOST.others,
)
"""A host may be lost with its directory where another has the same shards."""


class Step(NamedTuple):
    """A fault, `at` seconds after the first began."""

    at: float
    fault: Fault


def plan(seed: int, kills: int, seconds: float, mix: Mix) -> list[Step]:
    """So many kills, at least one of each kind, and what goes with them, spread over so many seconds."""
    chance = random.Random(seed)
    faults = [fault for fault, share in mix.kills.items() for _ in range(max(1, round(share * kills)))]
    faults += [fault for fault, share in mix.others.items() for _ in range(round(share * kills))]
    while sum(fault in mix.kills for fault in faults) < kills:
        faults.append(Fault.KILL_WORKER)
    chance.shuffle(faults)
    return [
        Step(at, fault) for at, fault in zip(sorted(chance.uniform(0, seconds) for _ in faults), faults, strict=True)
    ]
