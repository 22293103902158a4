from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from busmon.bus.consume.settling import Ack, ChannelTags


class BrokersChannel:
    """A channel with acks as in RabbitMQ: a multiple one takes all up to its tag, an unknown tag closes it."""

    def __init__(self) -> None:
        self.outstanding: set[int] = set()
        self.delivered = 0

    def deliver(self, count: int) -> list[int]:
        tags = list(range(self.delivered + 1, self.delivered + count + 1))
        self.delivered += count
        self.outstanding.update(tags)
        return tags

    def take(self, acks: list[Ack]) -> set[int]:
        acknowledged: set[int] = set()
        for ack in acks:
            assert ack.delivery_tag in self.outstanding, (
                f"PRECONDITION_FAILED - unknown delivery tag {ack.delivery_tag}"
            )
            taken = {tag for tag in self.outstanding if tag <= ack.delivery_tag} if ack.multiple else {ack.delivery_tag}
            self.outstanding -= taken
            acknowledged |= taken
        return acknowledged


def test_a_batch_takes_one_ack() -> None:
    settlement = ChannelTags()
    assert settlement.settle([1, 2, 3]) == [Ack(3, multiple=True)]
    assert settlement.settle([4, 5]) == [Ack(5, multiple=True)]


def test_what_lies_above_a_held_delivery_waits_for_it_and_shares_its_ack() -> None:
    settlement = ChannelTags()
    assert settlement.hold(3)
    assert settlement.settle([1, 2, 3, 4, 5]) == [Ack(2, multiple=True)]
    assert settlement.settle([6, 7]) == []
    assert settlement.parked == 4
    settlement.release(3)
    assert settlement.sweep() == [Ack(7, multiple=True)]
    assert settlement.settle([8, 9]) == [Ack(9, multiple=True)]


def test_what_lies_above_a_held_delivery_takes_one_ack_each_when_it_cannot_wait() -> None:
    settlement = ChannelTags()
    settlement.hold(1)
    settlement.settle([1, 2, 3])
    assert settlement.flush() == [Ack(2, multiple=False), Ack(3, multiple=False)]
    settlement.release(1)
    assert settlement.sweep() == [Ack(1, multiple=True)]


def test_deliveries_of_an_open_batch_are_never_acknowledged_with_others() -> None:
    settlement = ChannelTags()
    assert settlement.settle([4, 5]) == []
    assert settlement.flush() == [Ack(4, multiple=False), Ack(5, multiple=False)]
    assert settlement.settle([1, 2, 3]) == [Ack(3, multiple=True)]


def test_what_is_settled_cannot_be_settled_held_or_released_again() -> None:
    settlement = ChannelTags()
    settlement.settle([1, 2])
    assert settlement.settle([1, 2]) == []
    assert not settlement.hold(2)
    settlement.release(2)
    assert settlement.flush() == []


def test_a_delivery_is_held_once() -> None:
    settlement = ChannelTags()
    assert settlement.hold(1)
    assert not settlement.hold(1)
    assert settlement.held == 1


def test_an_empty_batch_needs_no_ack() -> None:
    assert ChannelTags().settle([]) == []


def test_one_held_delivery_costs_no_memory_for_those_settled_after_it() -> None:
    settlement = ChannelTags()
    settlement.hold(1)
    for start in range(2, 100_000, 100):
        settlement.settle(list(range(start, start + 100)))
        settlement.flush()
    assert settlement._gaps == {1}
    assert not settlement._parked


@given(st.permutations(range(1, 13)), st.integers(1, 12))
def test_any_order_of_batches_settles_everything_exactly_once(order: list[int], size: int) -> None:
    broker, settlement = BrokersChannel(), ChannelTags()
    broker.deliver(12)
    for start in range(0, 12, size):
        broker.take(settlement.settle(order[start : start + size]))
    assert not broker.outstanding


class AnyInterleaving(RuleBasedStateMachine):
    """Deliveries come, batches are settled, some deliveries are held and later released, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.broker = BrokersChannel()
        self.settlement = ChannelTags()
        self.open: set[int] = set()
        self.held: set[int] = set()
        self.ready: set[int] = set()

    def take(self, acks: list[Ack]) -> None:
        acknowledged = self.broker.take(acks)
        assert acknowledged <= self.ready
        self.ready -= acknowledged

    @rule(count=st.integers(1, 8))
    def deliver(self, count: int) -> None:
        self.open.update(self.broker.deliver(count))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle_the_oldest_batch(self, data: st.DataObject) -> None:
        batch = sorted(self.open)[: data.draw(st.integers(1, len(self.open)))]
        self._settle(batch)

    @rule(tags=st.lists(st.integers(1, 40)))
    def settle_anything_that_was_delivered(self, tags: list[int]) -> None:
        self._settle([tag for tag in tags if tag <= self.broker.delivered])

    def _settle(self, tags: list[int]) -> None:
        self.ready |= set(tags) & self.open - self.held
        self.open -= set(tags) - self.held
        self.take(self.settlement.settle(tags))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def hold(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.open)))
        assert self.settlement.hold(tag) == (tag not in self.held)
        self.held.add(tag)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        tag = data.draw(st.sampled_from(sorted(self.held)))
        self.settlement.release(tag)
        self.held.remove(tag)
        self.open.remove(tag)
        self.ready.add(tag)

    @rule()
    def sweep(self) -> None:
        self.take(self.settlement.sweep())
        lowest_gap = min(self.open, default=self.broker.delivered + 1)
        assert all(tag > lowest_gap for tag in self.ready)

    @rule()
    def flush(self) -> None:
        self.take(self.settlement.flush())
        assert not self.ready

    @invariant()
    def what_is_open_held_or_parked_is_outstanding_and_nothing_else(self) -> None:
        assert self.broker.outstanding == self.open | self.ready
        assert self.settlement.held == len(self.held)
        assert self.settlement.parked == len(self.ready)


TestAnyInterleaving = AnyInterleaving.TestCase
