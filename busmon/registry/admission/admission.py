"""Who gets in: which series a sample counts in, by the budgets of the whole fleet.

Asked only for series that the shard doesn't have. A label value without a place counts as `other`, or not at all in a
gauge; a series beyond the budgets isn't made. Places (`places.py`) and counts (`census.py`) are the same for every
process, under one lock, and survive restarts. When a label's places are all taken, those of values that were unseen
for long are given back. One object per shard, one thread.
"""

import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from busmon import files
from busmon.catalogue.family import GAUGE, Family
from busmon.errors import RejectedError
from busmon.registry.admission import contest
from busmon.registry.admission.budgets import OTHER, Budgets
from busmon.registry.admission.census import Census
from busmon.registry.admission.checks import MAX_ADOPTED_VALUE_CHARACTERS, label_texts
from busmon.registry.admission.families import Families, meaning
from busmon.registry.admission.places import Label, Place, Places, no_place
from busmon.registry.admission.weights import Weights
from busmon.registry.fold.columns import Group
from busmon.registry.principal import NOBODY, Principal, Sender, nobody
from busmon.registry.upkeep.survey import last_seen

LOCK_NAME = "admission.lock"
OWN_AGENT = "busmon"
"""The agent of busmon's own samples."""

ACTIVE_AGENTS = "active_agents"
"""The gauge that is derived from presence."""

LABEL_OVERFLOW = "busmon_label_overflow_total"
SERIES_OVERFLOW = "busmon_series_overflow_total"

SWEEP_SECONDS = 60.0
"""How often places of a family are looked for that can be given back, and for how long a refusal is remembered."""
STEP_SECONDS = 1.0
DOUBT_SECONDS = 600.0
"""For so long after a step of the clock no place is given back, so that all that lives is seen by the new time."""
CONTEST_SECONDS = 2.0
"""The same, where a principal has less than its fair share of a label's places."""
MAX_LOOKS = 100
"""Claims on others' places that are looked at in that time."""
MAX_FULL = 1_000
"""Families and principals of which it is known that a label has no place left."""
MAX_ALIASES = 10_000
MAX_ALIAS_CHARACTERS = 1024


class Alias(NamedTuple):
    """What becomes of label values that have no series of their own.

    Attributes:
        labelvalues: of the series that they count in.
        over: the labels whose value has no place.
        reason: why a sample of theirs is rejected; empty if it isn't.
        until: when to ask again, in seconds since the epoch.
    """

    labelvalues: tuple[str, ...]
    over: tuple[str, ...]
    reason: str
    until: float


class Admission:
    """One shard's way to the fleet's places and counts.

    Attributes:
        budgets: as of the last load of the settings.
        counted: what found no room in the open batch, by own metric and label values.
        returned: whether places were given back, so that series of the shard may have lost theirs.
        sender: gives who publishes what is asked for.
    """

    def __init__(self, registry_dir: Path, shard: int, families: Families, budgets: Budgets) -> None:
        self.budgets = budgets
        self.counted: Mapping[str, Counter[tuple[str, ...]]] = {SERIES_OVERFLOW: Counter(), LABEL_OVERFLOW: Counter()}
        self._directory = registry_dir
        self._shard = shard
        self._families = families
        self._places = Places(registry_dir)
        self._census = Census(registry_dir)
        self._weights = Weights(registry_dir, shard, families.is_adopted)
        self._series = 0
        self._aliases: dict[tuple[str, tuple[str, ...]], Alias] = {}
        self._swept: dict[str, float] = {}
        self._claims: dict[tuple[str, tuple[str, ...], Principal], bool] = {}
        self._looked_at = 0.0
        self._full: dict[tuple[str, Principal], tuple[frozenset[str], float]] = {}
        self.returned = True
        self.sender: Sender = nobody
        self._returns = 0
        self._owing = False
        self._detached = False
        self._difference = time.time() - time.monotonic()
        self._doubtful_until = 0.0

    # -- the way of a sample --------------------------------------------------------------------------------------

    def admit(self, group: Group, labelvalues: tuple[str, ...], agent: str, now: float) -> tuple[str, ...]:
        """The label values of the series that counts a sample with these, which is made if there is room for it.

        Raises:
            RejectedError: `label_budget`, `series_budget`, `byte_budget`, `invalid_label` or `family_changed`.
        """
        if labelvalues in group.cells:
            return labelvalues
        metric, key = group.family.name, (group.family.name, labelvalues)
        alias = self._aliases.get(key)
        if alias is None or now >= alias.until:
            if self._families.is_adopted(metric):
                label_texts(group.family.labelnames, labelvalues, MAX_ADOPTED_VALUE_CHARACTERS)
            owner = _own(group.family, labelvalues) if agent == OWN_AGENT else self.sender()
            alias = self._decide(group, labelvalues, owner, now)
            if alias.over or alias.reason:
                self._remember(key, alias)
        if metric != LABEL_OVERFLOW:
            for label in alias.over:
                self.counted[LABEL_OVERFLOW][metric, label, agent] += 1
        if alias.reason:
            if not alias.over:
                self.counted[SERIES_OVERFLOW][metric, agent] += 1
            raise _refusal(alias)
        return alias.labelvalues

    def _decide(self, group: Group, labelvalues: tuple[str, ...], owner: Principal, now: float) -> Alias:
        """Decide on label values that aren't known; nothing is locked where there is no room anyway."""
        family, until = group.family, now + SWEEP_SECONDS
        full = self._full_of(family, owner, now)
        over = self._over(family, labelvalues) if full else ()
        if not over or not full.issuperset(over):
            over, until = self._looked(family, labelvalues, owner, now)
        if over:
            if family.type == GAUGE:
                return Alias(labelvalues, over, "label_budget", until)
            folded = _folded(family, labelvalues, over)
            if folded in group.cells:
                return Alias(folded, over, "", until)
        with self._locked():
            if self.refresh():
                over = self._over(family, labelvalues)
            if over and family.type == GAUGE:
                return Alias(labelvalues, over, "label_budget", until)
            return self._counted(group, labelvalues, over, owner, now)

    def _looked(
        self, family: Family, labelvalues: tuple[str, ...], owner: Principal, now: float
    ) -> tuple[tuple[str, ...], float]:
        """Look for places, also of those that others give up: the labels without one, and until when this holds."""
        until = now + SWEEP_SECONDS
        self.refresh()
        over = self._over(family, labelvalues)
        if over and not self._detached:
            is_contested = self._is_contested(family, over, owner, now)
            until = now + (SWEEP_SECONDS if is_contested is False else CONTEST_SECONDS)
            if self._is_sweep_due(family, now, CONTEST_SECONDS if is_contested else SWEEP_SECONDS):
                with suppress(OSError):  # a full disk: nothing is given back
                    self._sweep(family, over, owner, now)
                over = self._over(family, labelvalues)
        if over:
            if len(self._full) >= MAX_FULL:
                self._full.clear()
            self._full[family.name, owner] = frozenset(over), now + CONTEST_SECONDS
        return over, until

    def _full_of(self, family: Family, owner: Principal, now: float) -> frozenset[str]:
        """Return the labels that had no place for the owner's values when it was looked lately."""
        full, until = self._full.get((family.name, owner), (frozenset[str](), 0.0))
        return full if until - CONTEST_SECONDS <= now < until else frozenset()

    def labels_of(self, family: Family, now: float) -> tuple[Label, ...] | None:
        """Give the values with a place of each label; None unless a label is known to have no more for the sender."""
        if not (full := self._full_of(family, self.sender(), now)):
            return None
        stated = self._families.stated(family).values
        taken = self._places.taken
        return tuple(
            Label(name, taken(family.name, name), frozenset(stated.get(name, ())), is_full=name in full)
            for name in family.labelnames
        )

    def _counted(
        self, group: Group, labelvalues: tuple[str, ...], over: tuple[str, ...], owner: Principal, now: float
    ) -> Alias:
        """Make the series that counts these label values, if there is room for it; the lock is held."""
        family, until = group.family, now + SWEEP_SECONDS
        labelvalues = _folded(family, labelvalues, over)
        if labelvalues in group.cells:
            return Alias(labelvalues, over, "", until)
        if not self._has_room(group):
            return Alias(labelvalues, (), "series_budget", until)
        cost = group.cost(labelvalues)
        if not (group.column.has_room(cost) and self._has_bytes(group, cost)):
            if not family.internal or family.type == GAUGE:
                return Alias(labelvalues, (), "byte_budget", until)
            over = family.labelnames  # what is rejected is counted all the same
            labelvalues = _folded(family, labelvalues, over)
        if labelvalues not in group.cells:
            self._make(group, labelvalues, owner, now)
        return Alias(labelvalues, over, "", until)

    def _over(self, family: Family, labelvalues: tuple[str, ...]) -> tuple[str, ...]:
        """The labels whose value has no place and can't have one."""
        stated = self._families.stated(family)
        over = []
        for label, value in zip(family.labelnames, labelvalues, strict=True):
            taken = self._places.taken(family.name, label)
            if value in taken or value == OTHER or value in stated.values.get(label, ()):
                continue
            if len(taken) >= self.budgets.for_label(stated, label):
                over.append(label)
        return tuple(over)

    def _has_room(self, group: Group) -> bool:
        """Whether one more series is within the budgets; busmon's own tell of what isn't, so they always are."""
        if group.family.internal:
            return True
        number = self._places.numbers.get(group.family.name)
        in_family = 0 if number is None else self._census.of(number)
        return in_family < self.budgets.series_per_family and self._census.total() < self.budgets.series

    def take_bytes(self, group: Group, size: int) -> bool:
        """Take room for a summary's new bin of this size, and return whether there was any."""
        has_room = self._has_bytes(group, size)
        if has_room:
            self._weights.add(group, size)
        return has_room

    def _has_bytes(self, group: Group, size: int) -> bool:
        return self._weights.has_room(group, size, self._places.numbers.get(group.family.name), self.budgets)

    def _make(self, group: Group, labelvalues: tuple[str, ...], owner: Principal, now: float) -> None:
        """Make the series, with the places that it needs. A crash in between is mended when the shard is opened."""
        if not self._detached:
            self._families.refresh()
            if meaning(self._families.freeze(group.family, owner)) != meaning(group.family):
                raise RejectedError("family_changed", "another process has written the metric in another form")
            self._places.take(self._placeless(group.family, labelvalues), now, owner)
        self._weights.add(group, group.cost(labelvalues))
        group.cell(labelvalues)
        self._series += 1
        if not self._detached:
            try:
                self._census.write(self._places.number(group.family.name), self._shard, len(group.cells))
                self._census.write_total(self._shard, self._series)
            except OSError:
                self._owing = True

    def _placeless(self, family: Family, labelvalues: tuple[str, ...]) -> Iterator[Place]:
        """The values that need a place and have none."""
        stated = self._families.stated(family)
        for label, value in zip(family.labelnames, labelvalues, strict=True):
            taken = self._places.taken(family.name, label)
            if value not in taken and value != OTHER and value not in stated.values.get(label, ()):
                yield Place(family.name, label, value)

    def _remember(self, key: tuple[str, tuple[str, ...]], alias: Alias) -> None:
        """Keep a refusal, so that the next such sample is cheap; as many as memory is meant for."""
        if len(self._aliases) >= MAX_ALIASES:
            self._aliases.clear()
        if sum(map(len, key[1])) <= MAX_ALIAS_CHARACTERS:
            self._aliases[key] = alias

    # -- places given back ----------------------------------------------------------------------------------------

    def _is_sweep_due(self, family: Family, now: float, seconds: float) -> bool:
        """Whether the last look was long enough ago."""
        if self._is_clock_doubtful():
            return False
        return now - self._swept.get(family.name, 0.0) >= seconds

    def _is_clock_doubtful(self) -> bool:
        """Return whether the wall clock was set lately: what looks unseen for a day may have been seen a minute ago."""
        running = time.monotonic()
        before, self._difference = self._difference, time.time() - running
        if abs(self._difference - before) > STEP_SECONDS:
            self._doubtful_until = running + DOUBT_SECONDS
        return running < self._doubtful_until

    def _budget(self, family: Family, label: str) -> int:
        return self.budgets.for_label(self._families.stated(family), label)

    def _is_contested(self, family: Family, over: tuple[str, ...], owner: Principal, now: float) -> bool | None:
        """Return whether others owe the owner places of these labels; None where too much was asked lately.

        A look passes over all places of a label, and a body may have ten thousand new values and principals.
        """
        if not 0 <= now - self._looked_at < CONTEST_SECONDS:
            self._looked_at = now
            self._claims.clear()
        claim = family.name, over, owner
        if claim not in self._claims and len(self._claims) < MAX_LOOKS:
            self._claims[claim] = any(self._given_up(family, label, {}, owner, now) for label in over)
        return self._claims.get(claim)

    def _given_up(
        self, family: Family, label: str, seen: Mapping[tuple[str, str], float], owner: Principal, now: float
    ) -> list[Place]:
        """Return the places of a label that others give up for this principal."""
        of_value = {value: at for (name, value), at in seen.items() if name == label}
        budget = self._budget(family, label)
        values = contest.given_up(self._places.held(family.name, label), of_value, owner, budget, now)
        return [Place(family.name, label, value) for value in values]

    def _sweep(self, family: Family, over: Iterable[str], owner: Principal, now: float) -> None:
        """Give back the places of values that no shard has seen for long, and those that others owe to the owner."""
        self._swept[family.name] = now
        seen, forget_seconds = last_seen(self._directory, family), self.budgets.forget_seconds
        with self._locked():
            self.refresh()
            unseen = [
                Place(family.name, label, value)
                for label in family.labelnames
                for value, held in self._places.held(family.name, label).items()
                if contest.is_unseen(held, seen.get((label, value), 0.0), owner, forget_seconds, now)
            ]
            self._places.give_back(unseen)
            for label in over:
                if len(self._places.taken(family.name, label)) >= self._budget(family, label):
                    self._places.give_back(self._given_up(family, label, seen, owner, now), are_lost=True)
            self.refresh()

    def is_lost(self, group: Group, labelvalues: tuple[str, ...]) -> bool:
        """Return whether a value of the series had to give up its place, however lately it was seen."""
        return any(place in self._places.lost for place in self._placeless(group.family, labelvalues))

    def placeless(self, groups: Iterable[Group]) -> Iterator[tuple[Group, tuple[str, ...]]]:
        """The shard's series with a label value that has no place."""
        for group in groups:
            for labelvalues in group.cells:
                if any(self._placeless(group.family, labelvalues)):
                    yield group, labelvalues

    def readmit(self, group: Group, labelvalues: tuple[str, ...], at: float) -> None:
        """Give a series' values their places again, over their budget if need be: they were seen meanwhile."""
        with self._locked():
            self.refresh()
            self._places.take(self._placeless(group.family, labelvalues), at)

    def pay(self, groups: Mapping[str, Group]) -> None:
        """Write what couldn't be written when a series was made; to be called before it is committed.

        Raises:
            OSError: it still can't be: the disk is full.
        """
        if self._detached:
            return
        if self._owing or self._places.owes:
            self.settle(groups)
        self._weights.write(self._places.numbers)

    def rollback(self, groups: Mapping[str, Group]) -> None:
        """Forget the series that the open batch made; what was said of them is mended with the next commit."""
        self._series = sum(len(group.cells) for group in groups.values())
        self._weights.recount(groups.values())
        self._aliases.clear()
        self._owing = True

    def settle(self, groups: Mapping[str, Group]) -> None:
        """Say what the shard has: what its owner died with may be said wrong.

        Raises:
            OSError: the log or the counts can't be written.
        """
        self._series = sum(len(group.cells) for group in groups.values())
        with self._locked():
            self.refresh()
            self._places.pay()
            for name in groups:
                self._places.number(name)
            for name, number in list(self._places.numbers.items()):
                self._census.write(number, self._shard, len(groups[name].cells) if name in groups else 0)
            self._census.write_total(self._shard, self._series)
            self._weights.settle(groups, self._places.numbers)
        self._owing = False
        self._aliases.clear()

    def release(self, family: Family) -> bool:
        """Give back all of a family's places and let its definition go, if no shard has a series of it.

        Raises:
            OSError: a file of the fleet can't be written.
        """
        with self._locked():
            self.refresh()
            number = self._places.numbers.get(family.name)
            if number is not None and self._census.of(number):
                return False
            labels = family.labelnames
            self._places.give_back(
                [
                    Place(family.name, label, value)
                    for label in labels
                    for value in self._places.taken(family.name, label)
                ]
            )
            self._families.unfreeze(family.name)
        return True

    def forfeit(self, agent: str, user: str | None) -> None:
        """Take all places away from an agent's label values; their series leave each shard.

        Raises:
            OSError: the log can't be written.
        """
        with self._locked():
            self.refresh()
            theirs = [place for place, owner in self._places.owners.items() if owner.matches(agent, user)]
            self._places.give_back(theirs, are_lost=True)
            self.refresh()

    # -- its life -------------------------------------------------------------------------------------------------

    def limit(self, budgets: Budgets) -> None:
        """Go by other budgets from here on; what is in stays in."""
        self.budgets = budgets
        self.forget()

    def forget(self) -> None:
        """Ask again of everything: budgets or families have changed."""
        self._aliases.clear()
        self._swept.clear()
        self._claims.clear()
        self._full.clear()

    def rewind(self, now: float) -> None:
        """Let no place be given later than now, and no refusal and no look for places outlast the clock's return."""
        self.forget()
        with suppress(OSError), self._locked():
            self.refresh()
            self._places.take([*self._places.later_than(now)], now)

    def detach(self) -> None:
        """Write nothing from here on, in a forked child that only tries a body."""
        self._detached = True

    def close(self) -> None:
        """Close the files."""
        self._places.close()
        self._census.close()
        self._weights.close()

    def refresh(self) -> bool:
        """Follow the fleet; whether there was anything to follow.

        Raises:
            RegistryError: the log of places isn't what busmon wrote.
        """
        changed = self._places.refresh()
        if self._places.returns != self._returns:
            self._returns, self.returned = self._places.returns, True
            self._aliases.clear()
            self._full.clear()
        return changed

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the fleet's admission. Opened each time, so that a forked child's death can't leave it held."""
        descriptor = files.opened(self._directory / LOCK_NAME, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _refusal(alias: Alias) -> RejectedError:
    if alias.over:
        return no_place(alias.over)
    of = "the bytes of a new series" if alias.reason == "byte_budget" else "a new series"
    return RejectedError(alias.reason, f"no place is left for {of} of the metric, or of all metrics")


def _own(family: Family, labelvalues: tuple[str, ...]) -> Principal:
    """Return whose series it is that busmon makes: the agent's that it tells of."""
    labels = dict(zip(family.labelnames, labelvalues, strict=True))
    named = labels.get("type", "") if family.name == ACTIVE_AGENTS else labels.get("agent", "")
    return Principal("", named) if named else NOBODY


def _folded(family: Family, labelvalues: tuple[str, ...], over: tuple[str, ...]) -> tuple[str, ...]:
    if not over:
        return labelvalues
    pairs = zip(family.labelnames, labelvalues, strict=True)
    return tuple(OTHER if label in over else value for label, value in pairs)
