"""The label values that give up their places for another principal's when all places of a label are taken.

Users share a label's places first, and the agents of one user share what that user has. So a crowd of invented agents
takes nothing from another user. A user below its fair share takes from the user with most above it, newest values
first; an agent takes in the same way from an agent of its own user. If nobody is above the share, values go that were
silent for longer than they were heard. A value that was heard for over an hour is never taken away in this way, so
newcomers take nothing from who was there. Pure.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from busmon.registry.admission.principal import NOBODY, Principal

ESTABLISHED_SECONDS = 3600.0
LEAST_SILENCE_SECONDS = 300.0
MOST_SILENCE_SECONDS = 30 * 86_400.0
PART = 10
"""At most one in so many of a label's places is given up at a time: a removal rewrites files."""


class HeldPlace(NamedTuple):
    """A value's place: since when it is held, in seconds since the epoch, and whose value it was first."""

    since: float
    owner: Principal = NOBODY


class _Giver(NamedTuple):
    """The principals that have more than their share, and how many values more."""

    owners: frozenset[Principal]
    values: int


def choose_given_up(
    held: Mapping[str, HeldPlace], seen: Mapping[str, float], asker: Principal, budget: int, now: float
) -> list[str]:
    """Return the values that give up their places for the asker.

    Args:
        held: the label's places, by value.
        seen: when each value was last counted, in seconds since the epoch.
        asker: the principal that has another value.
        budget: how many places the label has.
        now: in seconds since the epoch.
    """
    counts = Counter(place.owner for place in held.values() if place.owner != NOBODY)
    users: Counter[str] = Counter()
    for owner, count in counts.items():
        users[owner.user] += count
    is_poor = is_below_share(users, asker.user, budget)
    share = _share(max(users[asker.user], budget // len({*users, asker.user})), _agents(counts, asker))
    if not is_poor and counts[asker] >= share:
        return []
    lives = {value: max(0.0, seen.get(value, place.since) - place.since) for value, place in held.items()}
    young = [value for value, life in lives.items() if life < ESTABLISHED_SECONDS and held[value].owner != NOBODY]
    most = reserve(budget) or 1
    giver = _user(counts, users, asker, budget) if is_poor else None
    giver = giver or _agent(counts, asker, share)
    if giver:
        theirs = [value for value in young if held[value].owner in giver.owners]
        newest_first = sorted(theirs, key=lambda value: held[value].since)[::-1]
        return newest_first[: min(most, giver.values)]
    others = [
        value for value in young if held[value].owner != asker and (is_poor or held[value].owner.user == asker.user)
    ]
    silent = {value: now - held[value].since - lives[value] for value in others}
    over = [value for value, silence in silent.items() if silence > max(LEAST_SILENCE_SECONDS, lives[value])]
    return sorted(over, key=lambda value: -silent[value])[:most]


def is_below_share(users: Mapping[str, int], user: str, budget: int) -> bool:
    """Return whether a user has less than its fair share of a label's places.

    Args:
        users: how many places each user has.
        user: the one that is asked for.
        budget: how many places the label has.
    """
    return users.get(user, 0) < max(1, budget // len({*users, user}))


def reserve(budget: int) -> int:
    """Return how many of a label's places are left for users below their share, once there are two users."""
    return budget // PART


def is_unseen(place: HeldPlace, seen: float, asker: Principal, forget_seconds: float, now: float) -> bool:
    """Return whether a value is unseen for so long that it gives its place to anybody's.

    To another principal's value only after it was silent for longer than it was heard, if that is more.
    """
    at = max(place.since, seen)
    if place.owner not in {asker, NOBODY}:
        forget_seconds = max(forget_seconds, min(at - place.since, MOST_SILENCE_SECONDS))
    return now - at > forget_seconds


def _user(counts: Counter[Principal], users: Counter[str], asker: Principal, budget: int) -> _Giver | None:
    """Return the user with most, if that is more than its share."""
    user, values = users.most_common(1)[0] if users else (asker.user, 0)
    share = max(1, budget // len({*users, asker.user}))
    if user == asker.user or values <= share:
        return None
    return _Giver(frozenset(owner for owner in counts if owner.user == user), values - share)


def _agent(counts: Counter[Principal], asker: Principal, share: int) -> _Giver | None:
    """Return the agent of the asker's user with most, if that is more than its share."""
    agents = _agents(counts, asker)
    agent = max(agents, key=agents.__getitem__)
    if agent == asker or agents[agent] <= share or counts[asker] >= share:
        return None
    return _Giver(frozenset({agent}), agents[agent] - share)


def _agents(counts: Counter[Principal], asker: Principal) -> dict[Principal, int]:
    """Return how many places each agent of the asker's user has, the asker among them."""
    own = {owner: count for owner, count in counts.items() if owner.user == asker.user}
    return {asker: 0, **own}


def _share(places: int, parties: Collection[object]) -> int:
    return max(1, places // len(parties))
