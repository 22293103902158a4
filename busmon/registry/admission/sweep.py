"""The sweep: places of label values that were unseen for long are given back, and places that others owe.

A look for such places passes over all values of a label, so there is at most one in `SWEEP_SECONDS` for each family, or
in `CONTEST_SECONDS` where others owe places. One object per shard, one thread.
"""

import time
from collections.abc import Iterable, Mapping

from busmon.catalogue.family import Family
from busmon.registry.admission import contest
from busmon.registry.admission.allotment import Allotment
from busmon.registry.admission.places import Place
from busmon.registry.admission.principal import Principal
from busmon.registry.admission.survey import last_seen
from busmon.wall_clock import ClockSteps

SWEEP_SECONDS = 60.0
"""How often places of a family are looked for that can be given back, and for how long a refusal is remembered."""
CONTEST_SECONDS = 2.0
"""The same, where a principal has less than its fair share of a label's places."""
DOUBT_SECONDS = 600.0
"""For so long after a step of the clock no place is given back, so that all that lives is seen by the new time."""
MAX_LOOKS = 100
"""Claims of a user on others' places that are looked at in `CONTEST_SECONDS`."""

_Claim = tuple[str, tuple[str, ...], Principal]


class Sweep:
    """The looks for places of one shard."""

    def __init__(self, allotment: Allotment) -> None:
        self._allotment = allotment
        self._swept: dict[str, float] = {}
        self._claims: dict[str, dict[_Claim, bool]] = {}
        self._looked_at = 0.0
        self._steps = ClockSteps(time.CLOCK_MONOTONIC)  # after a machine's sleep all values look unseen, too
        self._doubtful_until = 0.0

    def is_due(self, family: Family, now: float, seconds: float) -> bool:
        """Return whether the last look was long enough ago."""
        if self._is_clock_doubtful():
            return False
        return now - self._swept.get(family.name, 0.0) >= seconds

    def is_contested(self, family: Family, over: tuple[str, ...], owner: Principal, now: float) -> bool | None:
        """Return whether others owe the owner places of these labels; None where too much was asked lately.

        A look passes over all places of a label, and a body may have ten thousand new values and principals.
        """
        if not 0 <= now - self._looked_at < CONTEST_SECONDS:
            self._looked_at = now
            self._claims.clear()
        claims, claim = self._claims.setdefault(owner.user, {}), (family.name, over, owner)
        if claim not in claims and len(claims) < MAX_LOOKS:
            claims[claim] = any(self._choose_given_up(family, label, {}, owner, now) for label in over)
        return claims.get(claim)

    def run(self, family: Family, over: Iterable[str], owner: Principal, now: float) -> None:
        """Give back the places of values that no shard has seen for long, and those that others owe to the owner.

        Raises:
            OSError: the log can't be written; nothing is given back.
        """
        self._swept[family.name] = now
        places, forget_seconds = self._allotment.places, self._allotment.budgets.forget_seconds
        seen = last_seen(self._allotment.directory, family)
        with self._allotment.lock():
            places.refresh()
            unseen = [
                Place(family.name, label, value)
                for label in family.labelnames
                for value, held in places.find_held(family.name, label).items()
                if contest.is_unseen(held, seen.get((label, value), 0.0), owner, forget_seconds, now)
            ]
            places.give_back(unseen)
            for label in over:
                if self._allotment.is_full(family, label, owner):
                    places.give_back(self._choose_given_up(family, label, seen, owner, now), are_lost=True)
            places.refresh()

    def forget(self) -> None:
        """Look again for every family: budgets, families or the clock have changed."""
        self._swept.clear()
        self._claims.clear()

    def _choose_given_up(
        self, family: Family, label: str, seen: Mapping[tuple[str, str], float], owner: Principal, now: float
    ) -> list[Place]:
        """Return the places of a label that others give up for this principal."""
        of_value = {value: at for (name, value), at in seen.items() if name == label}
        held, budget = self._allotment.places.find_held(family.name, label), self._allotment.budget(family, label)
        return [
            Place(family.name, label, value) for value in contest.choose_given_up(held, of_value, owner, budget, now)
        ]

    def _is_clock_doubtful(self) -> bool:
        """Return whether the wall clock was set lately: what looks unseen for a day may have been seen a minute ago."""
        running = time.monotonic()
        if self._steps.step():
            self._doubtful_until = running + DOUBT_SECONDS
        return running < self._doubtful_until
