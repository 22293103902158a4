from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from busmon.fleet.supervisor.up import deal

COUNTS = st.integers(min_value=1, max_value=64)


@given(COUNTS, COUNTS)
def test_every_shard_has_one_owner_and_no_worker_has_two_more_than_another(shards: int, workers: int) -> None:
    dealt = deal(shards, workers)
    assert sorted(shard for owned in dealt for shard in owned) == list(range(shards))
    assert len(dealt) == min(shards, workers)
    sizes = [len(owned) for owned in dealt]
    assert max(sizes) - min(sizes) <= 1


@given(COUNTS, COUNTS)
def test_workers_are_numbered_by_their_lowest_shard(shards: int, workers: int) -> None:
    assert [min(owned) for owned in deal(shards, workers)] == list(range(min(shards, workers)))


def test_workers_without_a_shard_are_not_started_and_that_is_said() -> None:
    with capture_logs() as lines:
        assert deal(shards=2, workers=3) == [(0,), (1,)]
        assert deal(shards=4, workers=3) == [(0, 3), (1,), (2,)]
    assert [line["event"] for line in lines] == ["up.workers_without_shard"]
