"""The admission of series: the series that a sample counts in, by the budgets of the whole fleet.

Asked only for series that the shard doesn't have. A label value without a place counts as `other`, or not at all in a
gauge; a series beyond the budgets isn't made. The fleet's places and counts are in `allotment.py`. When all places of a
label are taken, `sweep.py` looks for places that can be given back. One object per shard, one thread.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from busmon.bounded import BoundedCache
from busmon.catalogue.family import GAUGE, Family
from busmon.errors import RejectedError
from busmon.reasons import SampleReason
from busmon.registry.admission.allotment import Allotment
from busmon.registry.admission.budgets import OTHER, Budgets
from busmon.registry.admission.families import Families
from busmon.registry.admission.places import Label, Line, no_place
from busmon.registry.admission.principal import NOBODY, Principal, Sender, nobody
from busmon.registry.admission.sweep import CONTEST_SECONDS, SWEEP_SECONDS, Sweep
from busmon.registry.series.columns import SeriesGroup
from busmon.sample_checks import MAX_ADOPTED_VALUE_CHARACTERS, label_texts

OWN_AGENT = "busmon"
"""The agent of busmon's own samples."""

ACTIVE_AGENTS = "active_agents"
"""The gauge that is derived from presence."""

LABEL_OVERFLOW = "busmon_label_overflow_total"
SERIES_OVERFLOW = "busmon_series_overflow_total"

MAX_FULL = 1_000
"""Families and principals of which it is known that a label has no place left."""
MAX_ALIASES = 10_000
MAX_ALIAS_CHARACTERS = 1024


class Alias(NamedTuple):
    """The fate of label values that have no series of their own.

    Attributes:
        labelvalues: of the series that they count in.
        over: the labels whose value has no place.
        reason: why a sample of theirs is rejected; None if it isn't.
        until: when to ask again, in seconds since the epoch.
    """

    labelvalues: tuple[str, ...]
    over: tuple[str, ...]
    reason: SampleReason | None
    until: float


class Admission:
    """One shard's way to the fleet's places and counts.

    Attributes:
        counted: what found no room in the open batch, by own metric and label values.
        returned: whether places were given back, so that series of the shard may have lost theirs.
        sender: gives who publishes what is asked for.
    """

    def __init__(self, registry_dir: Path, shard: int, families: Families, budgets: Budgets) -> None:
        self.counted: Mapping[str, Counter[tuple[str, ...]]] = {SERIES_OVERFLOW: Counter(), LABEL_OVERFLOW: Counter()}
        self._families = families
        self._allotment = Allotment(registry_dir, shard, families, budgets)
        self._sweep = Sweep(self._allotment)
        self._aliases: BoundedCache[tuple[str, tuple[str, ...]], Alias] = BoundedCache(MAX_ALIASES)
        self._full: BoundedCache[tuple[str, Principal], tuple[frozenset[str], float]] = BoundedCache(MAX_FULL)
        self.returned = True
        self.sender: Sender = nobody
        self._returns = 0

    @property
    def budgets(self) -> Budgets:
        """Return the budgets as of the last load of the settings."""
        return self._allotment.budgets

    # -- the way of a sample --------------------------------------------------------------------------------------

    def admit(self, group: SeriesGroup, labelvalues: tuple[str, ...], agent: str, now: float) -> tuple[str, ...]:
        """Return the label values of the series that counts a sample with these; make it if there is room for it.

        Raises:
            RejectedError: `label_budget`, `series_budget`, `byte_budget`, `invalid_label` or `family_changed`.
        """
        if labelvalues in group.cells:
            return labelvalues
        metric, key = group.family.name, (group.family.name, labelvalues)
        alias = self._aliases.entries.get(key)
        if alias is None or now >= alias.until:
            if self._families.is_adopted(metric):
                label_texts(group.family.labelnames, labelvalues, MAX_ADOPTED_VALUE_CHARACTERS)
            sender = self.sender()
            owner = _own(group.family, labelvalues, sender.user) if agent == OWN_AGENT else sender
            alias = self._decide(group, labelvalues, owner, now)
            if alias.over or alias.reason:
                self._remember(key, alias)
        if metric != LABEL_OVERFLOW:
            for label in alias.over:
                self.counted[LABEL_OVERFLOW][metric, label, agent] += 1
        if alias.reason:
            if not alias.over:
                self.counted[SERIES_OVERFLOW][metric, agent] += 1
            raise _refusal(alias.reason, alias.over)
        return alias.labelvalues

    def _decide(self, group: SeriesGroup, labelvalues: tuple[str, ...], owner: Principal, now: float) -> Alias:
        """Decide on label values that aren't known; nothing is locked where there is no room anyway."""
        family, until = group.family, now + SWEEP_SECONDS
        full = self._full_of(family, owner, now)
        over = self._allotment.values_over(family, labelvalues, owner) if full else ()
        if not over or not full.issuperset(over):
            over, until = self._look_for_places(family, labelvalues, owner, now)
        if over:
            if family.type == GAUGE:
                return Alias(labelvalues, over, SampleReason.LABEL_BUDGET, until)
            folded = _fold_over(family, labelvalues, over)
            if folded in group.cells:
                return Alias(folded, over, None, until)
        with self._allotment.lock():
            if self.refresh():
                over = self._allotment.values_over(family, labelvalues, owner)
            if over and family.type == GAUGE:
                return Alias(labelvalues, over, SampleReason.LABEL_BUDGET, until)
            return self._make_series(group, labelvalues, over, owner, now)

    def _look_for_places(
        self, family: Family, labelvalues: tuple[str, ...], owner: Principal, now: float
    ) -> tuple[tuple[str, ...], float]:
        """Look for places, also of those that others give up: the labels without one, and until when this holds."""
        until = now + SWEEP_SECONDS
        self.refresh()
        over = self._allotment.values_over(family, labelvalues, owner)
        if over and not self._allotment.is_detached:
            is_contested = self._sweep.is_contested(family, over, owner, now)
            until = now + (SWEEP_SECONDS if is_contested is False else CONTEST_SECONDS)
            if self._sweep.is_due(family, now, CONTEST_SECONDS if is_contested else SWEEP_SECONDS):
                with suppress(OSError):  # a full disk: nothing is given back
                    self._sweep.run(family, over, owner, now)
                self._follow_returns()
                over = self._allotment.values_over(family, labelvalues, owner)
        if over:
            self._full.keep((family.name, owner), (frozenset(over), now + CONTEST_SECONDS))
        return over, until

    def _full_of(self, family: Family, owner: Principal, now: float) -> frozenset[str]:
        """Return the labels that had no place for the owner's values when it was looked lately."""
        full, until = self._full.entries.get((family.name, owner), (frozenset[str](), 0.0))
        return full if until - CONTEST_SECONDS <= now < until else frozenset()

    def labels_of(self, family: Family, now: float) -> tuple[Label, ...] | None:
        """Return the values with a place of each label; None unless a label is known to have no more for the sender."""
        if not (full := self._full_of(family, self.sender(), now)):
            return None
        stated = self._families.restate(family).values
        taken = self._allotment.places.find_taken
        return tuple(
            Label(name, taken(family.name, name), frozenset(stated.get(name, ())), is_full=name in full)
            for name in family.labelnames
        )

    def _make_series(
        self, group: SeriesGroup, labelvalues: tuple[str, ...], over: tuple[str, ...], owner: Principal, now: float
    ) -> Alias:
        """Make the series that counts these label values, if there is room for it; the lock is held."""
        family, until = group.family, now + SWEEP_SECONDS
        labelvalues = _fold_over(family, labelvalues, over)
        if labelvalues in group.cells:
            return Alias(labelvalues, over, None, until)
        if not self._allotment.has_room(group):
            return Alias(labelvalues, (), SampleReason.SERIES_BUDGET, until)
        cost = group.cost(labelvalues)
        if not (group.column.has_room(cost) and self._allotment.has_bytes(group, cost)):
            if not family.internal or family.type == GAUGE:
                return Alias(labelvalues, (), SampleReason.BYTE_BUDGET, until)
            over = family.labelnames  # what is rejected is counted all the same
            labelvalues = _fold_over(family, labelvalues, over)
        if labelvalues not in group.cells:
            self._allotment.make_series(group, labelvalues, owner, now)
        return Alias(labelvalues, over, None, until)

    def _remember(self, key: tuple[str, tuple[str, ...]], alias: Alias) -> None:
        """Keep a refusal, so that the next such sample is cheap."""
        if sum(map(len, key[1])) <= MAX_ALIAS_CHARACTERS:
            self._aliases.keep(key, alias)

    def take_bytes(self, group: SeriesGroup, sizes: Iterable[int]) -> int:
        """Take room for a summary's new bins of these sizes, and return how many of them have any."""
        return self._allotment.take_bytes(group, sizes)

    # -- the shard's series ---------------------------------------------------------------------------------------

    def placeless(self, groups: Iterable[SeriesGroup]) -> Iterator[tuple[SeriesGroup, tuple[str, ...]]]:
        """Yield the shard's series with a label value that has no place."""
        for group in groups:
            for labelvalues in group.cells:
                if any(self._allotment.places_missing(group.family, labelvalues)):
                    yield group, labelvalues

    def is_lost(self, group: SeriesGroup, labelvalues: tuple[str, ...]) -> bool:
        """Return whether a value of the series had to give up its place, however lately it was seen."""
        return self._allotment.is_lost(group, labelvalues)

    def readmit(self, group: SeriesGroup, labelvalues: tuple[str, ...], at: float) -> None:
        """Give a series' values their places again, over their budget if need be: they were seen meanwhile."""
        self._allotment.readmit(group, labelvalues, at)
        self._follow_returns()

    def release(self, family: Family) -> bool:
        """Give back all of a family's places and let its definition go, if no shard has a series of it.

        Raises:
            OSError: a file of the fleet can't be written.
        """
        is_released = self._allotment.release(family)
        self._follow_returns()
        return is_released

    def forfeit(self, agent: str, user: str | None) -> None:
        """Take all places away from an agent's label values; their series leave each shard.

        Raises:
            OSError: the log can't be written.
        """
        self._allotment.forfeit(agent, user)
        self._follow_returns()

    # -- other hosts ----------------------------------------------------------------------------------------------

    def keep_changes(self) -> None:
        """Keep the changes of places from here on, for `take_changes`."""
        self._allotment.places.keep_changes()

    def take_changes(self) -> list[Line]:
        """Return the changes of places that this shard has made since the last call."""
        return self._allotment.places.take_changes()

    def dump_places(self, families: Collection[str]) -> list[Line]:
        """Return all places of these families."""
        return self._allotment.places.dump(families)

    def take_over(self, lines: list[Line]) -> None:
        """Take over places as another host's shard has them.

        Raises:
            OSError: the log can't be written.
        """
        if lines:
            self._allotment.take_over(lines)
            self._follow_returns()

    # -- the batch ------------------------------------------------------------------------------------------------

    def pay(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Write what couldn't be written when a series was made; to be called before the series is committed.

        Raises:
            OSError: the disk is still full.
        """
        if not self._allotment.is_detached:
            self._allotment.pay(groups)
            self._follow_returns()

    def rollback(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Give back what the series took that the open batch had made; other shards have the room at once."""
        self._allotment.rollback(groups)
        self._aliases.clear()

    def settle(self, groups: Mapping[str, SeriesGroup]) -> None:
        """Write what the shard has: its files may say something else of it since its owner died.

        Raises:
            OSError: the log or the counts can't be written.
        """
        self._allotment.settle(groups)
        self._follow_returns()
        self._aliases.clear()

    # -- its life -------------------------------------------------------------------------------------------------

    def limit(self, budgets: Budgets) -> None:
        """Apply other budgets from here on; what is in stays in."""
        self._allotment.budgets = budgets
        self.forget()

    def forget(self) -> None:
        """Forget every answer: budgets or families have changed."""
        self._aliases.clear()
        self._sweep.forget()
        self._full.clear()

    def rewind(self, now: float) -> None:
        """Let no place be given later than now, and no refusal and no look for places outlast the clock's return."""
        self.forget()
        with suppress(OSError):
            self._allotment.rewind(now)
        self._follow_returns()

    def detach(self) -> None:
        """Write nothing from here on, in a forked child that only tries a body."""
        self._allotment.is_detached = True

    def close(self) -> None:
        """Close the files."""
        self._allotment.close()

    def refresh(self) -> bool:
        """Follow the fleet; return whether there was anything to follow.

        Raises:
            RegistryError: the log of places isn't what busmon wrote.
        """
        is_changed = self._allotment.places.refresh()
        self._follow_returns()
        return is_changed

    def _follow_returns(self) -> None:
        """Forget refusals for want of a place, if places were given back."""
        returns = self._allotment.places.returns
        if returns != self._returns:
            self._returns, self.returned = returns, True
            self._aliases.clear()
            self._full.clear()


def _refusal(reason: SampleReason, over: tuple[str, ...]) -> RejectedError:
    if over:
        return no_place(over)
    of = "the bytes of a new series" if reason == SampleReason.BYTE_BUDGET else "a new series"
    return RejectedError(reason, f"no place is left for {of} of the metric, or of all metrics")


def _own(family: Family, labelvalues: tuple[str, ...], user: str) -> Principal:
    """Return the principal of a series that busmon makes: the agent that the series describes, and the agent's user."""
    labels = dict(zip(family.labelnames, labelvalues, strict=True))
    named = labels.get("type", "") if family.name == ACTIVE_AGENTS else labels.get("agent", "")
    return Principal(user, named) if named else NOBODY


def _fold_over(family: Family, labelvalues: tuple[str, ...], over: tuple[str, ...]) -> tuple[str, ...]:
    if not over:
        return labelvalues
    pairs = zip(family.labelnames, labelvalues, strict=True)
    return tuple(OTHER if label in over else value for label, value in pairs)
