"""Totals without a time and an id are exact though their worker dies before its acks, and their program restarts."""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from busmon.bus.frames.delivery import Delivery
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.ledger import bodies as module
from busmon.registry.ledger.bodies import Bodies
from tests.unit.fleet.settlements import Worker, delivery

TEXT = "text/plain; version=0.0.4"


def text(jobs: float, more: str = "") -> bytes:
    return f"# TYPE jobs_total counter\njobs_total {jobs}\n{more}".encode()


def deliveries(contents: Iterable[bytes], redelivered: int, message_id: str | None = None) -> list[Delivery]:
    """Deliveries of these bodies, the first of them redelivered ones."""
    return [
        delivery(
            tag, content, redelivered=tag <= redelivered, message_id=message_id, content_type=TEXT, app_id="planner"
        )
        for tag, content in enumerate(contents, start=1)
    ]


def live(directory: Path, contents: Iterable[bytes], redelivered: int = 0, batch: int = 1_000) -> float:
    """Count deliveries in a worker's life, and return the total."""
    with Worker(directory, batch_size=batch) as worker:
        worker.lane.deliver(deliveries(contents, redelivered))
        worker.lane.close(Trigger.INTERVAL)
        return worker.shows("jobs_total", agent="planner")


def runs(chance: random.Random) -> Iterator[tuple[float, float]]:
    """Yield the totals of a program that restarts: jobs, and seconds that never come twice."""
    last = 0
    for _ in range(chance.randint(1, 5)):
        jobs, seconds = (chance.randint(0, last - 1) if last else chance.randint(1, 20)), 0.0
        for _ in range(chance.randint(1, 12)):
            seconds += chance.random()
            yield jobs, seconds
            jobs += chance.randint(0, 30)
            last = jobs
        last = max(1, last)


def growth(totals: Sequence[float]) -> float:
    """Add up what a program counted whose restarts are falls."""
    return sum(total if total < before else total - before for before, total in zip([0, *totals], totals, strict=False))


@pytest.mark.parametrize("seed", range(60))
def test_totals_are_exact_whatever_is_redelivered(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    totals = [*runs(chance)]
    contents = [text(jobs, f"# TYPE busy_total counter\nbusy_total {seconds!r}\n") for jobs, seconds in totals]
    delivered = 0
    acknowledged = 0
    while acknowledged < len(contents):
        is_last = chance.random() < 0.3
        upto = len(contents) if is_last else chance.randint(acknowledged, len(contents))
        with Worker(tmp_path, batch_size=chance.randint(1, 6)) as worker:
            worker.lane.deliver(deliveries(contents[acknowledged:upto], delivered - acknowledged))
            if is_last:
                worker.lane.close(Trigger.INTERVAL)
            committed = len(worker.broker.settled)
            shown = [worker.shows(name, agent="planner") for name in ("jobs_total", "busy_total")]
        delivered = max(delivered, upto)
        acknowledged += committed if is_last else chance.randint(0, committed)
    jobs, seconds = ([*column] for column in zip(*totals, strict=True))
    assert shown == pytest.approx([growth(jobs), growth(seconds)])


def test_a_total_of_before_a_counted_restart_is_known_where_it_is_redelivered(tmp_path: Path) -> None:
    told = [*map(text, (90, 100, 5, 10))]
    assert live(tmp_path, told) == 110
    assert live(tmp_path, told, redelivered=4) == 110
    assert live(tmp_path, [*map(text, (100, 5, 10, 95, 120))], redelivered=3) == 220


def test_a_restart_that_was_not_counted_before_its_redelivery_is_counted(tmp_path: Path) -> None:
    assert live(tmp_path, [text(8)]) == 8
    assert live(tmp_path, [*map(text, (8, 9, 1, 2, 20))], redelivered=4) == 8 + 1 + 20


def test_a_restart_with_ids_is_counted_where_it_is_redelivered(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for tag, total in enumerate((8, 2, 20), start=1):
            told = delivery(tag, text(total), redelivered=total == 2, content_type=TEXT, message_id=f"id-{tag}")
            worker.lane.deliver([told])
        worker.lane.close(Trigger.INTERVAL)
        assert worker.shows("jobs_total") == 28


def test_bytes_that_come_in_each_run_prove_nothing(tmp_path: Path) -> None:
    run = [*map(text, (1, 2, 3))]
    assert live(tmp_path, [*run, *run, text(1)]) == 7
    assert live(tmp_path, [text(2)], redelivered=1) == 8


def test_what_was_undone_is_not_known(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        worker.lane.deliver(deliveries([text(8)], 0))
        worker.lane.close(Trigger.INTERVAL)
        worker.lane.deliver(deliveries([text(2)], 0))
        worker.registry.shard.rollback()
    assert live(tmp_path, [text(2), text(20)], redelivered=1) == 28


def test_other_totals_and_bodies_with_ids_are_not_noted(tmp_path: Path) -> None:
    timed = b"# TYPE jobs_total counter\njobs_total 5 1763794800000\n"
    with Worker(tmp_path) as worker:
        worker.lane.deliver(deliveries([timed], 0))
        worker.lane.deliver(deliveries([text(8)], 0, message_id="x"))
        worker.lane.close(Trigger.INTERVAL)
        assert worker.registry.shard.ledger._bodies.dump() == []


def test_as_many_bodies_are_known_as_a_shard_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    assert module.MAX_BODIES > 65_535
    monkeypatch.setattr(module, "MAX_BODIES", 3)
    known = Bodies()
    known.add([1, 2, 1, 3])
    assert [known.count(digest) for digest in (1, 2, 3)] == [1, 1, 1]
    known.add([4, 4])
    assert [known.count(digest) for digest in (1, 2, 3, 4)] == [0, 0, 1, 2]
    assert known.dump() == [3, 4, 4]


def test_after_an_earlier_version_the_totals_decide_until_a_body_is_noted(tmp_path: Path) -> None:
    assert live(tmp_path, [*map(text, (1, 2, 3))]) == 3
    with Worker(tmp_path) as worker:
        ledger = worker.registry.shard.ledger
        ledger._bodies = Bodies()
        ledger._bodies.load(None)
        worker.registry.shard._state.begin_journal()
    for _ in range(2):
        assert live(tmp_path, [*map(text, (1, 2, 3))], redelivered=3) == 3
    assert live(tmp_path, [*map(text, (1, 2, 3, 5, 4))], redelivered=3) == 9
    assert live(tmp_path, [*map(text, (5, 4, 3, 6))], redelivered=3) == 15
