"""Events of the simulated platform over time: the day's curve, deploys, and at most one incident.

Everything is a function of the seconds since the start and of nothing else, so one plan gives one history, whether
agents live it or a benchmark writes it down as series. Plain data; any thread.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

INCIDENTS = ("high-error-rate", "service-down", "queue-overflow", "memory-leak", "pool-exhausted", "slow-responses")
"""What can be asked for; each is named for the alert of the monitoring strategy that it is to set off."""

BASE_FAILING = 0.002
FAILING = 0.2
MESSAGES_PER_SECOND = 100
LEAKED_BYTES_PER_SECOND = 500_000
SLOWNESS = 40
NIGHT = 0.4
"""How much of the work at the day's peak there is at its lowest."""


class Conditions(NamedTuple):
    """The conditions of one moment.

    Attributes:
        load: share of the peak's work.
        failing: share of tasks that fail.
        slowness: times that everything takes as long.
        backlog: messages more than otherwise in the queue `tasks`.
        leaked_bytes: that one process holds in vain.
        pool_share: of the database's pool in use, at least.
        database_up: whether it passes its health check.
    """

    load: float = 1.0
    failing: float = BASE_FAILING
    slowness: float = 1.0
    backlog: float = 0.0
    leaked_bytes: float = 0.0
    pool_share: float = 0.0
    database_up: bool = True


@dataclass(frozen=True, slots=True)
class Weather:
    """A history to come.

    Attributes:
        incident: one of `INCIDENTS`, or empty for none.
        after_seconds: its onset.
        lasting_seconds: how long it goes on; 0 to the end.
        strength: 1 is an incident that its alert's fast form notices; 0.1 one that only the slow form does.
        day_seconds: the length of a day, which begins at its peak.
        deploy_seconds: an agent is deployed again that often; 0 for never.
    """

    incident: str = ""
    after_seconds: float = 60.0
    lasting_seconds: float = 0.0
    strength: float = 1.0
    day_seconds: float = 86_400.0
    deploy_seconds: float = 900.0

    def at(self, seconds: float) -> Conditions:
        """Return the conditions so many seconds after the start."""
        load = (1 + NIGHT) / 2 + (1 - NIGHT) / 2 * math.cos(2 * math.pi * seconds / self.day_seconds)
        age = seconds - self.after_seconds
        if age < 0 or (self.lasting_seconds and age >= self.lasting_seconds):
            return Conditions(load)
        return self._during(load, age)

    def deploys(self, before: float, now: float, number: int) -> bool:
        """Return True if the agent of this number is deployed between two moments; agents take turns."""
        if not self.deploy_seconds:
            return False
        turn = number * 7.0
        return (before - turn) // self.deploy_seconds < (now - turn) // self.deploy_seconds and now > turn + 1

    def _during(self, load: float, age: float) -> Conditions:
        strength = self.strength
        failing = min(1.0, BASE_FAILING + FAILING * strength)
        during = {
            "high-error-rate": Conditions(load, failing=failing),
            "service-down": Conditions(load, failing=failing, database_up=False),
            "queue-overflow": Conditions(load, backlog=MESSAGES_PER_SECOND * strength * age),
            "memory-leak": Conditions(load, leaked_bytes=LEAKED_BYTES_PER_SECOND * strength * age),
            "pool-exhausted": Conditions(load, slowness=max(1.0, 5 * strength), pool_share=1.0),
            "slow-responses": Conditions(load, slowness=max(1.0, SLOWNESS * strength)),
        }
        return during.get(self.incident, Conditions(load))


FAIR = Weather()
"""No incident."""
