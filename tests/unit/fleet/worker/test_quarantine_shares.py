"""No user's invalid bodies push out those of all others, and each body beyond a share is counted."""

from pathlib import Path
from typing import Any

import pytest

from busmon.bus.frames.delivery import Delivery
from busmon.bus.topology import topology as topologies
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.quarantine_shares import LEAST_BODIES, MAX_USERS, REFILL_SECONDS, QuarantineShares
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.fold.fold import Fold
from busmon.wire.envelope import Envelope
from tests.unit.fleet.full_disk import fill
from tests.unit.fleet.settlements import VOTE, Worker, body, delivery

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

BODIES, SIZE_BYTES = 10_000, 268_435_456


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(shares: QuarantineShares, user: str | None, size: int = 100, attempts: int = BODIES) -> int:
    """Take room for bodies, each in quarantine at once; return their number."""
    kept = 0
    for _ in range(attempts):
        kept += shares.take(-1, user, size)
        shares.settle(-1)
    return kept


@pytest.mark.parametrize(("size", "bodies"), [(0, 2500), (26_843, 2500), (1 << 20, 64)])
def test_a_user_fills_a_quarter_at_once_by_number_or_by_bytes(clock: Clock, size: int, bodies: int) -> None:
    assert taken(QuarantineShares(BODIES, SIZE_BYTES, 1, clock), "greedy", size) == bodies


def test_the_shards_divide_a_share(clock: Clock) -> None:
    assert taken(QuarantineShares(BODIES, SIZE_BYTES, 4, clock), "greedy") == 625


def test_three_users_that_send_without_end_leave_a_quarter_to_the_others_for_hours(clock: Clock) -> None:
    shards = [QuarantineShares(BODIES, SIZE_BYTES, 4, clock) for _ in range(4)]
    begun = sum(taken(shard, f"greedy-{user}") for shard in shards for user in range(3))
    assert begun == 7500
    clock.now += 2 * 3600
    assert begun + sum(taken(shard, f"greedy-{user}") for shard in shards for user in range(3)) <= BODIES
    assert all(shard.take(1, "honest", 1 << 20) for shard in shards)


def test_a_spent_share_comes_back_in_six_hours_and_never_more(clock: Clock) -> None:
    shares = QuarantineShares(BODIES, SIZE_BYTES, 1, clock)
    assert taken(shares, "greedy") == 2500
    clock.now += REFILL_SECONDS / 2
    assert taken(shares, "greedy") == pytest.approx(1250, abs=1)
    clock.now += 10 * REFILL_SECONDS
    assert taken(shares, "greedy") == 2500


def test_what_is_rolled_back_is_given_back(clock: Clock) -> None:
    shares = QuarantineShares(BODIES, SIZE_BYTES, 1, clock)
    assert sum(shares.take(tag, "greedy", 100) for tag in range(BODIES)) == 2500
    shares.settle(0)
    shares.give_back([0, 1, 1, BODIES])
    assert taken(shares, "greedy") == 1
    shares.void()
    assert taken(shares, "greedy") == 2498
    shares.void()
    assert taken(shares, "greedy") == 0


def test_what_is_given_back_returns_to_the_account_that_it_was_taken_from(clock: Clock) -> None:
    shares = QuarantineShares(BODIES, SIZE_BYTES, 1, clock)
    for user in range(MAX_USERS):
        shares.take(user, f"user-{user}", 1)
    assert sum(shares.take(MAX_USERS + tag, "crowd-1", 1) for tag in range(2000)) == 2000
    clock.now += 10  # the share of each user of one body is whole again, and its account is forgotten
    assert taken(shares, "newcomer") == 2500
    shares.void()
    assert taken(shares, "crowd-1") == 2500
    assert shares._accounts[""].left == pytest.approx(shares._whole)


def test_a_quarantine_without_limits_takes_all_and_a_small_one_a_few(clock: Clock) -> None:
    assert taken(QuarantineShares(None, None, 4, clock), "a") == BODIES
    assert taken(QuarantineShares(5, None, 4, clock), "a") == LEAST_BODIES


def test_a_body_larger_than_a_share_is_kept_while_the_share_is_whole(clock: Clock) -> None:
    shares = QuarantineShares(None, 1000, 1, clock)
    assert taken(shares, "a", 5000, 3) == 1
    clock.now += REFILL_SECONDS
    assert not shares.take(4, "a", 1)


def test_accounts_are_bounded_and_those_beyond_share_one(clock: Clock) -> None:
    shares = QuarantineShares(BODIES, SIZE_BYTES, 1, clock)
    for user in range(MAX_USERS + 5):
        shares.take(user, f"user-{user}", 1)
    assert len(shares._accounts) <= MAX_USERS + 1
    clock.now += REFILL_SECONDS
    assert shares.take(MAX_USERS + 5, "newcomer", 1)
    assert len(shares._accounts) == 1


def test_the_shipped_topology_has_the_limits_that_the_docs_name() -> None:
    assert topologies.load(None, "telemetry").quarantine_limits == (BODIES, SIZE_BYTES)


# -- in a lane -------------------------------------------------------------------------------------------------------


def bad(tag: int, user: str, **properties: Any) -> Delivery:
    return delivery(tag, b"{", message_id=f"bad:{tag}", user_id=user, **properties)


def test_bodies_beyond_a_users_share_are_counted_and_acknowledged_and_others_are_quarantined(tmp_path: Path) -> None:
    with Worker(tmp_path, quarantined_bodies=100) as worker:
        worker.lane.deliver([bad(tag, "greedy") for tag in range(1, 41)])
        worker.lane.deliver([bad(41, "honest")])
        worker.lane.close(Trigger.INTERVAL)
        kept = [each.delivery.delivery_tag for each in worker.broker.quarantined]
        assert kept == [*range(1, 26), 41]
        assert worker.broker.settled == [*range(1, 42)]
        assert worker.shows("busmon_envelopes_rejected_total", reason="invalid_json") == 41
        assert worker.shows("busmon_quarantine_discarded_total", user="greedy") == 15
        assert worker.shows("busmon_quarantine_discarded_total", user="honest") == 0


def test_a_batch_that_is_folded_again_takes_no_second_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Worker(tmp_path, quarantined_bodies=100) as worker:
        with monkeypatch.context() as disk:
            fill("journal", disk)
            worker.lane.deliver([bad(tag, "greedy") for tag in range(1, 26)])
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    worker.lane.close(Trigger.INTERVAL)
        worker.lane.retry()
        assert len(worker.broker.quarantined) == 25
        assert worker.shows("busmon_quarantine_discarded_total", user="greedy") == 0


def test_bodies_that_were_not_in_quarantine_when_their_channel_was_lost_are_charged_once(tmp_path: Path) -> None:
    with Worker(tmp_path, quarantined_bodies=100) as worker:
        worker.lane.deliver([bad(tag, "greedy") for tag in range(1, 26)])
        worker.lane.close(Trigger.INTERVAL)
        for each in worker.broker.quarantined[:10]:
            each.stored()
        worker.lane.void()
        worker.lane.deliver([bad(tag, "greedy", redelivered=True) for tag in range(36, 51)])
        worker.lane.close(Trigger.INTERVAL)
        assert [each.delivery.delivery_tag for each in worker.broker.quarantined] == [*range(1, 26), *range(36, 51)]
        assert worker.shows("busmon_quarantine_discarded_total", user="greedy") == 0
        worker.lane.deliver([bad(51, "greedy")])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_quarantine_discarded_total", user="greedy") == 1


def test_a_body_that_busmon_failed_to_count_is_kept_whatever_the_share_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fold = Fold.envelope

    def fail(self: Fold, envelope: Envelope, now: float, user: str | None) -> None:
        if envelope.source == "poison":
            raise TypeError("Integer exceeds 64-bit range")
        fold(self, envelope, now, user)

    monkeypatch.setattr(Fold, "envelope", fail)
    with Worker(tmp_path, quarantined_bodies=100) as worker:
        worker.lane.deliver([bad(tag, "greedy") for tag in range(1, 31)])
        valid = body(VOTE, source="poison")
        worker.lane.deliver(
            [delivery(tag, valid, message_id=f"poison:{tag}", user_id="greedy") for tag in range(31, 61)]
        )
        worker.lane.deliver([bad(61, "greedy")])
        worker.lane.close(Trigger.INTERVAL)
        kept = [(each.delivery.delivery_tag, each.headers["reason"]) for each in worker.broker.quarantined]
        assert kept == [
            *((tag, "invalid_json") for tag in range(1, 26)),
            *((tag, "uncountable") for tag in range(31, 61)),
        ]
        assert worker.shows("busmon_quarantine_discarded_total", user="greedy") == 6


def test_bodies_without_a_user_are_told_from_those_of_a_user_of_any_name(tmp_path: Path) -> None:
    with Worker(tmp_path, quarantined_bodies=100) as worker:
        for number, user in enumerate((None, "unknown", "None"), start=1):
            tags = range(100 * number, 100 * number + 25 + number)
            worker.lane.deliver([delivery(tag, b"{", message_id=f"bad:{tag}", user_id=user) for tag in tags])
        worker.lane.close(Trigger.INTERVAL)
        discarded = [worker.shows("busmon_quarantine_discarded_total", user=user) for user in ("", "unknown", "None")]
        assert discarded == [1, 2, 3]


def test_an_open_batch_that_becomes_void_is_charged_once(tmp_path: Path) -> None:
    with Worker(tmp_path, quarantined_bodies=100) as worker:
        for first in (1, 101, 201):
            worker.lane.deliver([bad(tag, "greedy") for tag in range(first, first + 25)])
            worker.lane.void()
        worker.lane.deliver([bad(tag, "greedy") for tag in range(301, 326)])
        worker.lane.close(Trigger.INTERVAL)
        assert [each.delivery.delivery_tag for each in worker.broker.quarantined] == [*range(301, 326)]


def test_what_an_operator_replays_returns_whatever_the_users_share_is(tmp_path: Path) -> None:
    headers = {"original_user_id": "greedy", "replayed": True}
    ownership = Ownership(relays=frozenset({"operator"}))
    with Worker(tmp_path, quarantined_bodies=100, ownership=ownership) as worker:
        worker.lane.deliver([bad(tag, "greedy") for tag in range(1, 31)])
        worker.lane.deliver([bad(tag, "operator", headers=headers) for tag in range(31, 61)])
        worker.lane.deliver([bad(tag, "greedy", headers=headers) for tag in range(61, 71)])
        worker.lane.close(Trigger.INTERVAL)
        kept = [each.delivery.delivery_tag for each in worker.broker.quarantined]
        assert kept == [*range(1, 26), *range(31, 61)]
        assert worker.shows("busmon_quarantine_discarded_total", user="greedy") == 15
