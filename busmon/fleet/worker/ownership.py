"""The publisher of a delivery and its exchange, and the refusal of deliveries that state no publisher.

The setting `source_ownership` selects the rule: a source belongs to the user that opened it (`user`), each envelope
must state its user (`required`), or nothing is checked (`off`). Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Self

from busmon.bus.connect.connection import user_id
from busmon.bus.frames.delivery import Delivery
from busmon.bus.republish.relayed import FirstPublish, Gates, Relays, find_relays, is_relayed, read_first_publish
from busmon.bus.topology.topology import Topology
from busmon.errors import EnvelopeError
from busmon.reasons import BodyReason
from busmon.registry.ledger.ledger import Ledger
from busmon.settings import Settings
from busmon.wire.envelope import SOURCE_SEPARATOR, Envelope

_user_of, _properties_of = attrgetter("user_id"), attrgetter("encoded_properties")


@dataclass(frozen=True, slots=True)
class Ownership:
    """The rules by which the fleet checks the users of deliveries.

    Attributes:
        relays: the users that publish for others: the fleet itself, and the operators that replay.
        is_checked: a source belongs to the user that opened it.
        is_required: each envelope states its user.
        gates: the exchange that only the fleet may publish to, and the publishers' instead.
    """

    relays: Relays = frozenset()
    is_checked: bool = True
    is_required: bool = False
    gates: Gates = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, topology: Topology) -> Self:
        """Return the rules of the settings.

        A fleet that doesn't know its own user forwards without a user, so nothing can be checked.
        """
        chosen = "off" if user_id(settings.amqp_url) is None else settings.source_ownership
        return cls(
            find_relays(topology.relays, settings.amqp_url),
            chosen != "off",
            chosen == "required",
            {topology.ring.entrance.source: topology.exchange} if topology.ring else {},
        )

    def users(self, run: Sequence[Delivery]) -> list[str | None]:
        """Return the user that first published each delivery."""
        users = [*map(_user_of, run)]
        if self.relays.isdisjoint(users) or not is_relayed(map(_properties_of, run)):
            return users
        return [self.read_first_publish(delivery).user for delivery in run]

    def read_first_publish(self, delivery: Delivery) -> FirstPublish:
        """Return the first publish of a delivery."""
        return read_first_publish(delivery, self.relays, self.gates)

    def is_replayed(self, delivery: Delivery) -> bool:
        """Return whether an operator has published the delivery from the quarantine."""
        return self.read_first_publish(delivery).is_replayed

    def find_exchange(self, delivery: Delivery) -> str:
        """Return the exchange that a delivery was first published to."""
        return self.read_first_publish(delivery).exchange

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


def own_sources(envelope: Envelope, user: str | None, ledger: Ledger) -> Envelope:
    """Prefix the sources of an envelope of another format with its user: their names aren't unique among users.

    No envelope can state such a name. Without a user, only a name that passes for one takes a prefix, an empty one.
    """
    parts = [part._replace(source=_own_source(part.source, user, ledger)) for part in envelope.parts]
    return envelope._replace(source=_own_source(envelope.source, user, ledger), parts=parts)


def _own_source(source: str, user: str | None, ledger: Ledger) -> str:
    if user is None:
        return f"{SOURCE_SEPARATOR}{source}" if SOURCE_SEPARATOR in source else source
    name, earlier = f"{user}{SOURCE_SEPARATOR}{source}", f"{user}/{source}"
    # A name of 0.2.0 goes on, or its cumulative totals would count once more.
    return earlier if ledger.is_opened_by(earlier, user) and not ledger.knows(name) else name
