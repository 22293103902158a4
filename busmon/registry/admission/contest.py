"""The label values that give up their places for another principal's when all places of a label are taken.

A principal under its fair share takes from the one with most above it, newest values first; users share before their
agents do. If nobody is above the share, values go that were silent for longer than they were heard. A value that was
heard for over an hour is never taken away in this way, so newcomers take nothing from who was there. Pure.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from busmon.registry.principal import NOBODY, Principal

ESTABLISHED_SECONDS = 3600.0
LEAST_SILENCE_SECONDS = 300.0
MOST_SILENCE_SECONDS = 30 * 86_400.0
PART = 10
"""At most one in so many of a label's places is given up at a time: a removal rewrites files."""


class Held(NamedTuple):
    """A value's place: since when it is held, in seconds since the epoch, and whose value it was first."""

    since: float
    owner: Principal = NOBODY


class _Excess(NamedTuple):
    """Whose values are above the share, and how many of them are."""

    owners: frozenset[Principal]
    values: int


def given_up(
    held: Mapping[str, Held], seen: Mapping[str, float], asker: Principal, budget: int, now: float
) -> list[str]:
    """Return the values that give up their places for the asker.

    Args:
        held: the label's places, by value.
        seen: when each value was last counted, in seconds since the epoch.
        asker: who wants a place for another value.
        budget: how many places the label has.
        now: in seconds since the epoch.
    """
    counts = Counter(place.owner for place in held.values())
    if counts[asker] >= _share(budget, {*counts, asker}):
        return []
    lives = {value: max(0.0, seen.get(value, place.since) - place.since) for value, place in held.items()}
    young = [value for value, life in lives.items() if life < ESTABLISHED_SECONDS and held[value].owner != NOBODY]
    counts.pop(NOBODY, None)
    excess, most = _excess(counts, asker, budget), max(1, budget // PART)
    if excess is not None:
        theirs = [value for value in young if held[value].owner in excess.owners]
        newest_first = sorted(theirs, key=lambda value: held[value].since)[::-1]
        return newest_first[: min(most, excess.values)]
    silent = {value: now - held[value].since - lives[value] for value in young if held[value].owner != asker}
    over = [value for value, silence in silent.items() if silence > max(LEAST_SILENCE_SECONDS, lives[value])]
    return sorted(over, key=lambda value: -silent[value])[:most]


def is_unseen(place: Held, seen: float, asker: Principal, forget_seconds: float, now: float) -> bool:
    """Return whether a value is unseen for so long that it gives its place to anybody's.

    To another principal's value only after it was silent for longer than it was heard, if that is more.
    """
    at = max(place.since, seen)
    if place.owner not in {asker, NOBODY}:
        forget_seconds = max(forget_seconds, min(at - place.since, MOST_SILENCE_SECONDS))
    return now - at > forget_seconds


def _excess(counts: Counter[Principal], asker: Principal, budget: int) -> _Excess | None:
    users: Counter[str] = Counter()
    for owner, count in counts.items():
        users[owner.user] += count
    user, values = users.most_common(1)[0] if users else ("", 0)
    share = _share(budget, {*users, asker.user})
    if user != asker.user and values > share > users[asker.user]:
        return _Excess(frozenset(owner for owner in counts if owner.user == user), values - share)
    owner, values = counts.most_common(1)[0] if counts else (asker, 0)
    share = _share(budget, {*counts, asker})
    return _Excess(frozenset({owner}), values - share) if owner != asker and values > share else None


def _share(budget: int, parties: set[Principal] | set[str]) -> int:
    return max(1, budget // len(parties))
