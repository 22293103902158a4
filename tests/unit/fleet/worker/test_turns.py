"""While a lane is behind, each user has a turn: who sends what takes long waits for itself, and others hardly wait."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from busmon.bus.frames.delivery import Delivery
from busmon.fleet.worker import lane as lanes
from busmon.fleet.worker.intake import Intake
from busmon.fleet.worker.open_batch import MAX_RUN_BYTES
from busmon.fleet.worker.ownership import Ownership
from busmon.fleet.worker.trigger import Trigger
from busmon.fleet.worker.turns import MAX_SHARED_BYTES, Turns
from tests.unit.fleet.settlements import VOTE, Settled, Worker, body, delivery
from tests.unit.registry.test_linear import steps


def tags(turn: list[Delivery]) -> list[int]:
    return [each.delivery_tag for each in turn]


def waiting(turns: Turns, user: str | None, *numbers: int, size: int = MAX_SHARED_BYTES) -> None:
    """Let deliveries wait, as large as a turn that users share."""
    turns.add([delivery(number, b"x" * size) for number in numbers], [user] * len(numbers))


def charge(turns: Turns, user: str, seconds: float) -> None:
    turns.charge([delivery(1)], [user], seconds)


def test_the_user_that_took_least_time_is_next_and_keeps_its_order() -> None:
    turns = Turns()
    waiting(turns, "greedy", 1, 2, 3)
    waiting(turns, "honest", 4, 5)
    assert tags(turns.next()) == [1, 2, 3]
    charge(turns, "greedy", 0.25)
    waiting(turns, "greedy", 2, 3)
    assert tags(turns.next()) == [4, 5]
    charge(turns, "honest", 0.001)
    waiting(turns, "honest", 6)
    waiting(turns, "greedy", 7)
    assert tags(turns.next()) == [2, 3, 7]


def test_who_comes_later_begins_with_the_least_that_a_waiting_one_has_taken() -> None:
    """Or else who was away could take all the time that the others have taken meanwhile."""
    turns = Turns()
    waiting(turns, "old", 1, 2)
    for seconds in (5.0, 5.0):
        left = turns.next()
        charge(turns, "old", seconds)
        turns.add(left, ["old"] * len(left))
    waiting(turns, "new", 3)
    charge(turns, "new", 1.0)
    assert tags(turns.next()) == [1, 2]
    charge(turns, "old", 2.0)
    waiting(turns, "old", 1, 2)
    assert tags(turns.next()) == [3]


def test_users_with_little_to_fold_share_a_turn_and_are_charged_by_their_bytes() -> None:
    turns = Turns()
    waiting(turns, "a", 1, 2, size=100)
    waiting(turns, "b", 3, size=100)
    waiting(turns, "c", 4, size=3 * 606 - 506)  # each has 6 bytes of properties
    waiting(turns, "large", 5, 6)
    waiting(turns, "d", 7, size=100)
    turn = turns.next()
    assert tags(turn) == [1, 2, 3, 4]
    turns.charge(turn, ["a", "a", "b", "c"], 6.0)
    assert [turns._taken_seconds[user] for user in "abc"] == pytest.approx([2.0, 1.0, 3.0])
    assert tags(turns.next()) == [5, 6]
    assert tags(turns.next()) == [7]
    assert (turns.bytes, bool(turns)) == (0, False)


def test_a_turn_has_at_most_so_many_deliveries_of_several_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("busmon.fleet.worker.turns.MAX_SHARED", 3)
    turns = Turns()
    waiting(turns, "a", 1, 2, size=1)
    waiting(turns, "b", 3, 4, size=1)
    waiting(turns, "c", *range(5, 10), size=1)
    assert [tags(turns.next()) for _ in "abc"] == [[1, 2], [3, 4], [*range(5, 10)]]


@pytest.mark.parametrize("first", [True, False])
def test_a_user_with_a_compressed_body_has_a_turn_of_its_own(*, first: bool) -> None:
    """Its few bytes may take as long as a hundred thousand of others'."""
    turns = Turns()
    turns.add([packed(1, "packed") if first else delivery(1)], ["one"])
    turns.add([delivery(2) if first else packed(2, "packed")], ["two"])
    assert [tags(turns.next()), tags(turns.next())] == [[1], [2]]


def test_everything_is_taken_out_in_the_order_of_arrival() -> None:
    turns = Turns()
    waiting(turns, "a", 1, 4)
    waiting(turns, "b", 2)
    waiting(turns, None, 3)
    assert [each.delivery_tag for each in turns.take_all()] == [1, 2, 3, 4]
    assert not turns


@pytest.fixture
def slow_clock(clock: SimpleNamespace) -> None:
    """Let a second pass with each look at the clock, so that a slice of work is one delivery."""
    seconds = iter(range(10_000))
    clock.monotonic = lambda: float(next(seconds))


def packed(tag: int, user: str | None) -> Delivery:
    content = gzip.compress(body(VOTE, source=f"s-{user}"))
    return delivery(tag, content, content_encoding="gzip", user_id=user, message_id=f"s-{user}:{tag}")


@pytest.mark.usefixtures("slow_clock", "at_once")
@pytest.mark.parametrize("greedy", ["greedy", None])
def test_an_honest_users_envelope_is_folded_before_a_greedy_ones_backlog(tmp_path: Path, greedy: str | None) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver([packed(tag, greedy) for tag in range(1, 51)])
        worker.lane.deliver([packed(51, "honest")])
        for _ in range(2):
            worker.lane.work()
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.calls == [Settled([1, 2, 51], votes=3)]
        while worker.lane.is_behind:
            worker.lane.work()
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.settled == [1, 2, 51, *range(3, 51)]
        assert worker.votes() == 51


@pytest.mark.usefixtures("slow_clock", "at_once")
def test_beyond_so_many_bytes_what_arrives_is_folded_as_fast_as_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = [packed(tag, "greedy") for tag in range(1, 21)]
    monkeypatch.setattr(lanes, "MAX_WAITING_BYTES", 4 * (len(bodies[0].body) + len(bodies[0].encoded_properties)))
    with Worker(tmp_path) as worker:
        worker.lane.deliver(bodies[:2])
        for each in bodies[2:]:
            worker.lane.deliver([each])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.settled == [*range(1, 17)]


def test_the_bytes_that_wait_are_counted() -> None:
    turns = Turns()
    added = [delivery(1, b"x" * 5), delivery(2, b"x" * 7, headers={"h": "y" * 1_000})]
    turns.add(added, ["a", "b"])
    assert turns.bytes == 5 + 7 + sum(len(each.encoded_properties) for each in added) > 1_000
    turns.take_all()
    assert turns.bytes == 0


def test_headers_count_as_bodies_do() -> None:
    turns = Turns()
    run = [delivery(1, b"x", headers={"h": "y" * 10_000}), delivery(2, b"x" * 10_000)]
    turns.add(run, ["a", "b"])
    turns.charge(turns.next(), ["a", "b"], 2.0)
    assert [turns._taken_seconds[user] for user in "ab"] == pytest.approx([1.0, 1.0], rel=0.01)


def test_a_run_is_bounded_by_headers_as_by_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fold, runs = Intake.fold, []

    def note(intake: Intake, run: Sequence[Delivery]) -> None:
        runs.append(sum(len(each.body) + len(each.encoded_properties) for each in run))
        fold(intake, run)

    monkeypatch.setattr(Intake, "fold", note)
    with Worker(tmp_path, batch_size=500) as worker:
        large = {"h": "y" * 16_000}
        worker.lane.deliver([delivery(tag, body(), headers=large) for tag in range(1, 401)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_envelopes_consumed_total") == 400
        assert worker.shows("busmon_batches_total", trigger="size") == 0
    assert sum(runs) > 400 * 16_000
    assert max(runs) < MAX_RUN_BYTES + 17_000


def test_a_batch_is_full_of_headers_as_of_bodies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("busmon.fleet.worker.open_batch.MAX_BATCH_BYTES", 100_000)
    with Worker(tmp_path, batch_size=500) as worker:
        worker.lane.deliver([delivery(tag, body(), headers={"h": "y" * 10_000}) for tag in range(1, 31)])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("busmon_batches_total", trigger="size") == 3


def test_many_users_with_one_delivery_each_are_folded_in_one_slice(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane._wait([packed(tag, f"user-{tag}") for tag in range(1, 31)])
        worker.lane.work()
        assert not worker.lane.is_behind
        assert worker.lane._turns._taken_seconds == {}  # nothing is remembered once nothing waits
        worker.lane.close(Trigger.INTERVAL)
        assert worker.broker.settled == [*range(1, 31)]


def test_many_users_with_one_delivery_each_cost_about_what_one_user_costs(tmp_path: Path) -> None:
    def folding(users: int) -> Callable[[], object]:
        directory = tmp_path / str(users)
        directory.mkdir()
        worker = Worker(directory)
        worker.lane._wait(
            [
                delivery(tag, body(VOTE, source=f"s-{tag}"), user_id=f"u-{tag % users}", message_id=f"s-{tag}:1")
                for tag in range(1, 201)
            ]
        )

        def fold() -> None:
            while worker.lane.is_behind:
                worker.lane.work()
            worker.lane.close(Trigger.INTERVAL)
            assert worker.votes() == 200
            worker.__exit__()

        return fold

    steps(folding(2))  # imports
    assert steps(folding(200)) < 1.2 * steps(folding(1))


def test_who_folds_slowly_is_charged_and_who_shares_its_turn_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    """The first slice is spent on one compressed body; then all of the others come before the next one."""
    seconds = [0.0]
    clock.monotonic = lambda: seconds[0]
    fold = Intake.fold

    def fold_slowly(intake: Intake, run: Sequence[Delivery]) -> None:
        fold(intake, run)
        seconds[0] += sum(0.3 if each.content_encoding else 0.0001 for each in run)

    monkeypatch.setattr(Intake, "fold", fold_slowly)
    with Worker(tmp_path) as worker:
        worker.lane._wait([packed(tag, "greedy") for tag in range(1, 4)])
        worker.lane._wait([delivery(tag, user_id=f"user-{tag}") for tag in range(4, 100)])
        for expected in ([1], [*range(4, 100), 2], [3]):
            worker.lane.work()
            assert tags(worker.lane._batch._deliveries) == expected
            worker.lane.close(Trigger.INTERVAL)


def test_users_that_nothing_checks_share_one_turn(tmp_path: Path) -> None:
    """A source may then arrive under several users, and its envelopes keep their order."""
    with Worker(tmp_path, ownership=Ownership(is_checked=False)) as worker:
        worker.lane._wait([packed(1, "b"), packed(2, "a"), packed(3, "b")])
        assert tags(worker.lane._turns.next()) == [1, 2, 3]
