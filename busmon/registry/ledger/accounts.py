"""The owners of the remembered sources: an account for each principal, by which the greediest gives up its own first.

A principal is who publishes: the user that the broker checked, and the agent that the publisher names. A user can't be
forged, an agent's name can. So users share first, and within each user its agents. `MAX_ACCOUNTS` agents have an
account of their own, first come; the agents after them share one for each user. A crowd of invented names thus
competes with itself. A place is free again when its holder has been silent for longer than it was heard. Pure.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, TypeVar

from busmon.registry.admission.principal import Principal

MAX_ACCOUNTS = 1000
"""Of named agents, in one shard; those of the others come on top, one for each user."""

LEAST_SILENCE_SECONDS = 300.0
MOST_SILENCE_SECONDS = 24 * 3600.0
LOOK_AGAIN_SECONDS = 10.0
"""How often free places are looked for, so that a crowd of names doesn't have each name look."""

OTHERS = ""
"""The agent of the account that agents without a place share."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(slots=True)
class Account:
    """One principal's sources.

    Attributes:
        first_at: when the principal was first heard, in seconds since the epoch.
        last_at: when it was last heard.
        sources: the longest unheard first.
    """

    first_at: float
    last_at: float
    sources: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def oldest(self) -> str:
        """Return the source that was unheard for longest."""
        return next(iter(self.sources))

    def is_over(self, now: float) -> bool:
        """Return whether the principal has been silent for longer than it was heard, or for a day."""
        heard = self.last_at - self.first_at
        return now - self.last_at > min(max(heard, LEAST_SILENCE_SECONDS), MOST_SILENCE_SECONDS)


class Accounts:
    """The accounts of one shard."""

    def __init__(self) -> None:
        self._by_principal: dict[Principal, Account] = {}
        self._of_source: dict[str, Account] = {}
        self._looked_at = 0.0

    def hear(self, source: str, user: str, agent: str, heard_at: float) -> None:
        """Note that a principal's source was heard."""
        account = self._of_source.get(source)
        if account is None:
            account = self._of_source[source] = self._of(Principal(user, agent), heard_at)
        account.last_at = heard_at
        sources = account.sources
        sources[source] = None
        sources.move_to_end(source)

    def evict(self, excess: int) -> Iterator[tuple[str, str]]:
        """Take so many sources out of the largest accounts of the users with most; name agent and source."""
        users: Counter[str] = Counter()
        for principal, account in self._by_principal.items():
            users[principal.user] += len(account.sources)
        for user, amount in cuts(users, excess).items():
            accounts = {p: account for p, account in self._by_principal.items() if p.user == user}
            sizes = {principal: len(account.sources) for principal, account in accounts.items()}
            for principal, given_up in cuts(sizes, amount).items():
                for _ in range(given_up):
                    yield principal.agent, self._let_go(accounts[principal])

    def move(self, seconds: float, now: float) -> None:
        """Move the times of all principals, but to none later than now."""
        self._looked_at = min(self._looked_at + seconds, now)
        for account in self._by_principal.values():
            account.first_at = min(account.first_at + seconds, now)
            account.last_at = min(account.last_at + seconds, now)

    def take_silent(self, heard_at: Callable[[str], float], before: float) -> Iterator[str]:
        """Take out the sources that were last heard before, and name them; an account without sources is closed."""
        for account in self._by_principal.values():
            while account.sources and heard_at(account.oldest) < before:
                yield self._let_go(account)
        self._by_principal = {
            principal: account
            for principal, account in self._by_principal.items()
            if account.sources or account.last_at >= before
        }

    def in_order(self) -> Iterator[str]:
        """Yield all sources, account by account, the longest unheard first."""
        for account in self._by_principal.values():
            yield from account.sources

    def dump(self) -> list[tuple[str, str, float, float]]:
        """Return each principal, and when it was first and last heard, as JSON-ready values."""
        return [(*principal, account.first_at, account.last_at) for principal, account in self._by_principal.items()]

    def load(self, dumped: Iterable[Iterable[Any]]) -> None:
        """Take over what `dump` gave."""
        for user, agent, first_at, last_at in dumped:
            self._by_principal.setdefault(Principal(user, agent), Account(first_at, last_at))

    def _let_go(self, account: Account) -> str:
        source, _ = account.sources.popitem(last=False)
        del self._of_source[source]
        return source

    def _of(self, principal: Principal, now: float) -> Account:
        """Return the account that takes a new source of this principal: its own, or the others'."""
        if principal not in self._by_principal and not self._has_room(now):
            principal = principal._replace(agent=OTHERS)
        return self._by_principal.setdefault(principal, Account(now, now))

    def _has_room(self, now: float) -> bool:
        if len(self._by_principal) < MAX_ACCOUNTS:
            return True
        if not 0 <= now - self._looked_at < LOOK_AGAIN_SECONDS:
            self._looked_at = now
            self._give_back(now)
        return len(self._by_principal) < MAX_ACCOUNTS

    def _give_back(self, now: float) -> None:
        """Close the accounts whose principals are over; their sources go to the others of their users."""
        over = [principal for principal, account in self._by_principal.items() if account.is_over(now)]
        for principal in over:
            if principal.agent == OTHERS:
                continue
            closed = self._by_principal.pop(principal)
            others = self._by_principal.setdefault(principal._replace(agent=OTHERS), Account(now, now))
            others.sources.update(closed.sources)
            self._of_source.update(dict.fromkeys(closed.sources, others))


def cuts(sizes: Mapping[_Key, int], excess: int) -> dict[_Key, int]:
    """Return what each gives up of its size, together `excess`, such that the largest come down to one level.

    Of equal ones the later gives up more.
    """
    ordered = sorted(sizes.items(), key=itemgetter(1), reverse=True)
    total = 0
    for count, (_, size) in enumerate(ordered, start=1):
        total += size
        below = ordered[count][1] if count < len(ordered) else 0
        if total - below * count >= excess:
            level, left = divmod(max(0, total - excess), count)
            return {key: size - level - (place < left) for place, (key, size) in enumerate(ordered[:count])}
    return {}
