"""The publisher of a delivery, and the refusal of deliveries that state none.

The setting `source_ownership` selects the rule: a source belongs to the user that opened it (`user`), each envelope
must state its user (`required`), or nothing is checked (`off`). Pure.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

from busmon.bus.connect.connection import user_id
from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.relayed import Relays, is_replayed, publisher
from busmon.bus.topology.topology import Topology
from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.settings import Settings
from busmon.wire.envelope import Envelope

RELAYING_ROLES = frozenset({"consumer", "operator"})

_user_of = attrgetter("user_id")


@dataclass(frozen=True, slots=True)
class Ownership:
    """The rules by which the fleet checks the users of deliveries.

    Attributes:
        relays: the users that publish for others: the fleet itself, and the operators that replay.
        is_checked: a source belongs to the user that opened it.
        is_required: each envelope states its user.
    """

    relays: Relays = frozenset()
    is_checked: bool = True
    is_required: bool = False

    @classmethod
    def of(cls, settings: Settings, topology: Topology) -> Self:
        """Return the rules of the settings.

        A fleet that doesn't know its own user forwards without a user, so nothing can be checked.
        """
        own = user_id(settings.amqp_url)
        chosen = "off" if own is None else settings.source_ownership
        relays = {user.name for user in topology.users if user.role in RELAYING_ROLES} | ({own} if own else set())
        return cls(frozenset(relays), chosen != "off", chosen == "required")

    def users(self, run: Iterable[Delivery]) -> list[str | None]:
        """Return the user that first published each delivery."""
        users = [*map(_user_of, run)]
        if self.relays.isdisjoint(users):
            return users
        return [publisher(delivery, self.relays) for delivery in run]

    def is_replayed(self, delivery: Delivery) -> bool:
        """Return whether an operator has published the delivery from the quarantine."""
        return is_replayed(delivery, self.relays)

    def require(self, user: str | None) -> None:
        """Check that a delivery states its user, if the rules require it.

        Raises:
            EnvelopeError: `no_user`.
        """
        if self.is_required and user is None:
            raise EnvelopeError(BodyReason.NO_USER, "it states no user_id, which the setting source_ownership requires")


def foreign_source(source: str, user: str | None) -> EnvelopeError:
    """Make the error for an envelope of a source that belongs to another user."""
    by = f"user {user!r}" if user else "somebody who states no user_id"
    return EnvelopeError(BodyReason.FOREIGN_SOURCE, f"the source {source!r} belongs to another user than {by}")


def own_sources(envelope: Envelope, user: str) -> Envelope:
    """Prefix the sources of another format's envelope with its user: their names aren't unique among users."""
    parts = [part._replace(source=f"{user}/{part.source}") for part in envelope.parts]
    return envelope._replace(source=f"{user}/{envelope.source}", parts=parts)
