"""The principal: a publisher, by what the broker and the publisher say of it. Pure."""

from collections.abc import Callable
from typing import NamedTuple


class Principal(NamedTuple):
    """A publisher, by its user and its agent.

    Attributes:
        user: as AMQP's `user_id` states it, which the broker checks; empty where the publisher doesn't state it.
        agent: the name that the publisher gives itself.
    """

    user: str
    agent: str

    def matches(self, agent: str, user: str | None) -> bool:
        """Return whether this is the agent, of this user or of any."""
        return self.agent == agent and user in {None, self.user}

    def __str__(self) -> str:
        return f"{self.agent} (user {self.user})" if self.user else self.agent


NOBODY = Principal("", "")
"""The owner of what was taken by an earlier version, or by busmon itself."""

Sender = Callable[[], Principal]
"""Gives the principal of the envelope that is being folded."""


def nobody() -> Principal:
    """Return the principal of what nobody published."""
    return NOBODY
