"""Cumulative streams: growth is counted once, restarts are seen, and nothing is remembered without end."""

from collections.abc import Sequence
from math import nan

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from busmon.errors import RejectedError
from busmon.registry.fold import streams as module
from busmon.registry.fold.streams import Streams
from busmon.wire.envelope import Observed, Point
from tests.unit.registry.registries import NOW

START = NOW - 1000


def point(value: float | Observed, second: float, start: float | None = START, name: str = "c") -> Point:
    return Point(name, name, "counter", value, at=NOW + second, is_total=True, start=start)


def advance(streams: Streams, told: Point, now: float = NOW + 10_000) -> float | Observed:
    total = streams.total("s", told, now)
    growth = streams.growth(total)
    streams.advance(total)
    return growth


def grown(points: Sequence[Point], streams: Streams | None = None) -> list[float | Observed | None]:
    """List the growth by each point; None for a stale point."""
    streams = streams or Streams()
    found: list[float | Observed | None] = []
    for told in points:
        try:
            found.append(advance(streams, told))
        except RejectedError as rejected:
            found.append(None if rejected.reason == "stale_total" else nan)
        streams.commit()
    return found


def test_a_stream_counts_from_its_start_and_then_what_it_grows() -> None:
    assert grown([point(5, 1), point(5, 2), point(9.5, 3)]) == [5, 0, 4.5]


def test_a_later_start_is_a_restart_and_so_is_a_fall_that_states_none() -> None:
    assert grown([point(5, 1), point(2, 2, START + 1), point(3, 3, START + 1)]) == [5, 2, 1]
    assert grown([point(5, 1, None), point(2, 2, None), point(3, 3, None)]) == [5, 2, 1]


def test_what_comes_late_or_again_adds_nothing() -> None:
    assert grown([point(5, 2), point(5, 2), point(4, 1), point(9, 3, START - 1)]) == [5, None, None, None]


@pytest.mark.parametrize("start", [None, START])
@pytest.mark.parametrize("ahead_seconds", [None, 3, 6.5, 60, 90_000])
def test_a_total_whose_time_is_its_arrival_adds_nothing_where_its_body_was_counted(
    start: float | None, ahead_seconds: float | None
) -> None:
    streams = Streams()

    def tell(value: int, measured: int, arrived: int, *, times_counted: int = 0) -> float | Observed | None:
        at = None if ahead_seconds is None else NOW + measured + ahead_seconds
        told = Point("c", "c", "counter", value, at=at, is_total=True, start=start)
        total = streams.total("s", told, NOW + arrived, times_counted=times_counted)
        try:
            growth = streams.growth(total)
        except RejectedError as rejected:
            return None if rejected.reason == "stale_total" else nan
        streams.advance(total)
        streams.commit()
        return growth

    assert [tell(value, value, value) for value in (1, 2, 3)] == [1, 1, 1]
    assert [tell(value, value, 4 + value, times_counted=1) for value in (1, 2, 3, 5)] == [None, None, None, None]
    assert [tell(value, value, 4 + value, times_counted=2) for value in (1, 2, 3, 5)] == [None, None, 0, 2]
    assert [tell(4, 10, 10), tell(6, 11, 11)] == [4, 2]  # a restart


def test_a_total_whose_body_was_counted_and_that_fell_is_a_restart_by_its_time() -> None:
    streams = Streams()
    growth = []
    for value, second in ((5, 1), (2, 2), (3, 3)):
        total = streams.total("s", point(value, second, None), NOW + 10, times_counted=int(value != 5))
        growth.append(streams.growth(total))
        streams.advance(total)
        streams.commit()
    assert growth == [5, 2, 1]


@pytest.mark.parametrize("times_counted", [1, 2])
def test_observations_without_a_time_that_were_counted_and_fell_add_nothing(times_counted: int) -> None:
    streams = Streams()
    told = [Point("c", "c", "histogram", Observed(count, 2.0, {1.0: count}), is_total=True) for count in (1, 3)]
    for second, each in enumerate(told):
        streams.advance(streams.total("s", each, NOW + second))
        streams.commit()
    late = streams.total("s", told[0], NOW + 2, times_counted=times_counted)
    with pytest.raises(RejectedError, match="is counted already"):
        streams.growth(late)


def test_observations_grow_by_bucket_and_coarser_buckets_take_in_the_finer() -> None:
    told = [
        point(Observed(3, 6.0, {1.0: 1, 2.0: 2}), 1),
        point(Observed(4, 12.0, {1.0: 1, 2.0: 3}), 2),
        point(Observed(6, 13.0, {2.0: 5, 4.0: 1}), 3),
        point(Observed(1, 1.0, {1.0: 1}), 4),
    ]
    assert grown(told) == [
        told[0].value,
        Observed(1, 6.0, {1.0: 0, 2.0: 1}),
        Observed(2, 1.0, {2.0: 1, 4.0: 1}),
        told[3].value,
    ]


def test_an_open_batch_that_never_happened_leaves_the_stream_where_it_was() -> None:
    streams = Streams()
    assert advance(streams, point(5, 1)) == 5
    streams.commit()
    assert advance(streams, point(7, 2)) == 2
    assert advance(streams, point(8, 3)) == 1
    streams.rollback()
    assert advance(streams, point(8, 3)) == 3


def test_a_forgotten_stream_is_only_taken_note_of_and_a_new_one_counts() -> None:
    streams = Streams()
    advance(streams, point(5, 1), now=NOW + 1)
    streams.commit()
    streams.forget(NOW + 2)
    assert grown([point(7, 3)], streams) == [0]
    assert grown([point(8, 4)], streams) == [1]
    assert grown([point(3, 3, NOW + 2, "d")], streams) == [3]


def test_the_stream_unheard_for_longest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAMS", 2)
    streams = Streams()
    grown([point(1, second, name=name) for second, name in enumerate(("a", "b", "a", "c"))], streams)
    assert len(streams.dump(whole=True)["known"]) == 2
    assert grown([point(2, 9, name="a"), point(2, 9, name="b")], streams) == [1, 0]


def test_a_clock_that_is_ahead_moves_the_horizon_no_further_than_now() -> None:
    streams = Streams()
    advance(streams, point(1, 10**9), now=NOW)
    streams.commit()
    streams.forget(NOW + 1)
    assert streams.horizon == NOW


def test_a_producer_whose_clock_is_ahead_counts_once() -> None:
    ahead = START + 10**6
    streams = Streams()
    assert [advance(streams, point(total, 10**6, ahead), now=NOW + at) for at, total in enumerate((5, 5, 9))] == [
        5,
        0,
        4,
    ]


def test_streams_with_many_buckets_have_fewer_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIZE", 30)
    streams = Streams()
    wide = Observed(1, 1.0, {float(bound): 0 for bound in range(20)})
    for second, name in enumerate("abab"):
        grown([point(wide, second, name=name)], streams)
        assert len(streams.dump(whole=True)["known"]) == 1
    grown([point(number, 10 + number, name=f"n{number}") for number in range(9)], streams)
    assert len(streams.dump(whole=True)["known"]) == 30 // 4


def test_an_open_batch_advances_no_more_than_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SIZE", 8)
    streams = Streams()
    for name in "ab":
        advance(streams, point(1, 1, name=name))
    with pytest.raises(RejectedError, match="stream_budget"):
        advance(streams, point(1, 1, name="c"))
    assert advance(streams, point(3, 2, name="a")) == 2
    streams.commit()
    assert advance(streams, point(1, 1, name="c")) == 1


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Observed(1, 0, dict.fromkeys(map(float, range(1001)), 0)), "bucket_mismatch"),
        (-1, "negative_increment"),
        (float("nan"), "non_finite"),
        (Observed(-1, 0, {}), "negative_increment"),
        (Observed(1, 0, {2.0: 1, 1.0: 0}), "invalid_value"),
        (Observed(1, 0, {float("inf"): 1}), "invalid_value"),
        (Observed(1, 0, {1.0: 1, 2.0: 1}), "invalid_value"),
        (Observed(2**64, 0, {1.0: 2**64}), "invalid_value"),
    ],
)
def test_a_total_that_cannot_be_is_rejected(value: float | Observed, reason: str) -> None:
    with pytest.raises(RejectedError, match=reason):
        Streams().total("s", point(value, 0), NOW)


def test_what_a_stream_keeps_can_always_be_written_to_the_journal() -> None:
    streams = Streams()
    values: list[float | Observed] = [2**70, 10**300, 1.7e308, Observed(2**63 - 1, 10**40, {1.0: 2**63 - 1})]
    for number, value in enumerate(values):
        advance(streams, point(value, number, name=str(number)))
    assert orjson.loads(orjson.dumps(streams.dump(whole=False)))["known"]


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=20), st.data())
def test_growth_adds_up_to_the_total_however_points_are_lost_repeated_or_shuffled(
    increments: list[int], data: st.DataObject
) -> None:
    totals = [sum(increments[: number + 1]) for number in range(len(increments))]
    points = [point(total, second) for second, total in enumerate(totals)]
    arrived = [*data.draw(st.lists(st.sampled_from(points), max_size=30)), points[-1]]
    added = [amount for amount in grown(arrived) if isinstance(amount, int | float)]
    assert sum(added) == totals[-1]
