"""The kinds of slices of a long soak. Another kind is another entry of `KINDS`. Main thread."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import trial
from tests.cluster.faults import CASES, KILL
from tests.cluster.network import obstacle as network_obstacle
from tests.soak import soak
from tests.soak.plan import SEVERAL_HOSTS
from tests.soak.soak import NO_ENVIRONMENT

TRIALS = 2
"""Faults of a slice on a cluster; each takes one to three minutes."""


@dataclass(frozen=True, slots=True)
class Done:
    """The outcome of a slice.

    Attributes:
        kills: processes that were ended by SIGKILL, the broker's nodes among them.
        faults: how often which fault was done.
        figures: counts, for a person.
        complaints: promises that were broken.
    """

    kills: int
    faults: Mapping[str, int]
    figures: Mapping[str, int]
    complaints: list[str]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of slice.

    Attributes:
        turns: slices of this kind in a round of all kinds.
        run: soaks in the kind's directory, which all its slices share, for so many kills over so many seconds.
        obstacle: says why no such slice can be run here; empty where one can.
    """

    turns: int
    run: Callable[[Path, int, int, float], Done]
    obstacle: Callable[[], str] = str


def on_node(hosts: int = 1, environment: Mapping[str, str] = NO_ENVIRONMENT) -> Callable[[Path, int, int, float], Done]:
    """Return the run of slices on one node, with so many hosts and these settings of theirs and the publishers."""

    def run(directory: Path, seed: int, kills: int, seconds: float) -> Done:
        outcome = soak.run(directory, seed, kills, seconds, hosts=hosts, environment=environment)
        done = sum(count for fault, count in outcome.faults.items() if fault in SEVERAL_HOSTS.kills)
        return Done(
            done, {str(fault): count for fault, count in outcome.faults.items()}, outcome.figures, outcome.complaints
        )

    return run


def on_cluster(directory: Path, seed: int, _kills: int, _seconds: float) -> Done:
    """Inject a few of the cluster suite's faults, as the seed decides; the cluster is a new one."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    complaints, published = [], 0.0
    shutil.rmtree(directory)
    with trial.stand(directory / "nodes") as stand:
        for number, case in enumerate(chance.sample(CASES, TRIALS)):
            measured = trial.run(stand, directory / f"lab{number}", chance.choice(stand.nodes), case)
            done[str(case)] += 1
            published += sum(measured.published.values())
            complaints += [f"{case}: {line}" for line in measured.faults]
    kills = sum(count for name, count in done.items() if KILL in name)
    return Done(kills, done, {"tasks, each counted once": int(published)}, complaints)


KINDS: Mapping[str, Kind] = {
    "node": Kind(8, on_node()),
    "hosts": Kind(2, on_node(hosts=2)),
    "cluster": Kind(1, on_cluster, network_obstacle),
}
