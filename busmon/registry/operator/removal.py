"""The removal of series from a shard: those that a person names, and those whose label values gave their places back.

To be called between two batches, by the shard's owner: what is open is committed first, and a series that comes again
starts at 0. One thread.
"""

from collections.abc import Iterable, Mapping

from busmon.catalogue.family import Family
from busmon.registry.operator.requests import Request
from busmon.registry.shard.shard import Shard
from busmon.registry.storage.compaction import LabelSet


def is_due(shard: Shard) -> bool:
    """Return whether label values have given their places back, so that there may be series to remove.

    Raises:
        RegistryError: the log of places isn't what busmon wrote.
    """
    shard.admission.refresh()
    return shard.admission.returned


def tidy(shard: Shard, now: float) -> int:
    """Remove the series whose label values have given their places back; how many.

    A value that was seen since gets its place again: it was given back by who couldn't know that yet.

    Raises:
        OSError: a file can't be written; it is for another time.
        RegistryError: as of `Shard.remove`.
    """
    if not is_due(shard):
        return 0
    shard.commit(now)
    shard.admission.returned = False
    try:
        doomed = _unseen(shard, now)
        if doomed:
            shard.remove(doomed, now)
    except OSError:
        shard.admission.returned = True
        raise
    return sum(len(series) for series in doomed.values())


def drop(shard: Shard, name: str, labels: Mapping[str, str], now: float) -> int:
    """Remove the series of a family that have these labels; how many.

    When no shard has any of it left, its definition is let go.

    Raises:
        OSError: a file can't be written; nothing is removed.
        RegistryError: as of `Shard.remove`.
    """
    return _drop(shard, [name], labels, now)


def drop_agent(shard: Shard, agent: str, user: str | None, now: float) -> int:
    """Remove the metrics that an agent had taken up, and the series of the label values that are its; how many.

    Its places are given back first, for the whole fleet, so that whatever is killed in between is finished later.

    Raises:
        OSError: a file can't be written; what wasn't removed is for another time.
        RegistryError: as of `Shard.remove`.
    """
    shard.commit(now)
    shard.admission.forfeit(agent, user)
    names = [name for name, owner in shard.families.owners.items() if owner.matches(agent, user)]
    return _drop(shard, names, {}, now) + tidy(shard, now)


def carry_out(shard: Shard, request: Request, now: float) -> int:
    """Remove the series that a person named, and return how many.

    Raises:
        OSError, RegistryError: as of `drop`.
    """
    if request.agent:
        return drop_agent(shard, request.agent, request.user, now)
    return drop(shard, request.family, request.labels, now)


def _drop(shard: Shard, names: Iterable[str], labels: Mapping[str, str], now: float) -> int:
    """Remove the series of these families that have these labels, and return how many: the files are rewritten once."""
    families = [family for name in names if (family := shard.families.get(name)) is not None]
    doomed = {family.metric_name: series for family in families if (series := _matching(shard, family, labels))}
    if doomed:
        shard.remove(doomed, now)
    for family in families:
        shard.admission.release(family)
    shard.fold.reroute()
    return sum(map(len, doomed.values()))


def _matching(shard: Shard, family: Family, labels: Mapping[str, str]) -> set[LabelSet]:
    group = shard.fold.groups.get(family.name)
    found = [group.labels(labelvalues) for labelvalues in group.cells] if group else []
    return {series for series in found if labels.items() <= series}


def _unseen(shard: Shard, now: float) -> dict[str, set[LabelSet]]:
    """Return the series with a value that has no place, by metric name; readmit those that were seen lately."""
    unseen: dict[str, set[LabelSet]] = {}
    horizon = now - shard.admission.budgets.forget_seconds
    for group, labelvalues in list(shard.admission.placeless(shard.fold.groups.values())):
        is_lost = shard.admission.is_lost(group, labelvalues)
        if not is_lost and shard.find_updated_at(group, labelvalues) >= horizon:
            shard.admission.readmit(group, labelvalues, now)
        else:
            unseen.setdefault(group.family.metric_name, set()).add(group.labels(labelvalues))
    return unseen
