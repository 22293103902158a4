"""A commit finds the latest share of a series without the shares of all its sources, and finds the right one."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.series.latest import Share
from busmon.registry.series.shares import MERGES, Shares

SOURCES = st.sampled_from(["a", "b", "c", "d"])
CELLS = st.integers(0, 2)
VALUES = st.sampled_from([-1.0, 0.0, 2.0])
TIMES = st.sampled_from([1.0, 2.0, 3.0, 90.0, 200.0])
SHARES = st.none() | st.builds(Share, TIMES, VALUES, st.booleans())
STEPS = st.one_of(
    st.tuples(st.sampled_from(["set", "replace", "move", "derive"]), CELLS, SOURCES, VALUES, TIMES),
    st.tuples(st.just("load"), CELLS, SOURCES, SHARES),
    st.tuples(st.just("remove"), CELLS, SOURCES),
    st.tuples(st.just("drop"), st.lists(SOURCES, max_size=2)),
    st.tuples(st.just("rewind"), TIMES),
    st.tuples(st.sampled_from(["commit", "merge", "rollback"])),
)


def merged_by_all_shares(shares: Shares) -> dict[int, tuple[float, float]]:
    """Merge the open batch as if nothing were remembered: each touched cell's value and time."""
    live: dict[int, dict[str, Share | None]] = {}
    touched = {cell for cell, _, _ in shares.dump(whole=False)}
    for whole in (True, False):
        for cell, source, share in shares.dump(whole=whole):
            live.setdefault(cell, {})[source] = share
    merged = {}
    for cell in touched:
        left = [share for share in live[cell].values() if share]
        left = [share for share in left if not share.derived] or left
        merged[cell] = (max(left).value, max(left).at) if left else (0.0, 0.0)
    return merged


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=40))
def test_the_merge_is_that_of_all_shares(steps: list[tuple[Any, ...]]) -> None:
    shares = Shares(MERGES["gauge_mostrecent"])
    for name, *arguments in steps:
        if name == "merge":
            list(shares.merge())
        else:
            getattr(shares, name)(*arguments)
        assert {cell: (value, at) for cell, value, at in shares.merge()} == merged_by_all_shares(shares)


class Counted(dict[str, Share]):
    """The shares of a cell, which count how often all of them are looked at."""

    looks = 0

    def __iter__(self) -> Any:
        self.looks += 1
        return super().__iter__()

    def values(self) -> Any:
        self.looks += 1
        return super().values()

    def keys(self) -> Any:
        self.looks += 1
        return super().keys()


def test_a_commit_looks_at_the_shares_that_changed() -> None:
    shares = Shares(MERGES["gauge_mostrecent"])
    for number in range(1000):
        shares.set(0, f"s-{number}", number, 10.0)
    list(shares.merge())
    shares.commit()
    list(shares.merge())
    shares.set(0, "s-1", 5, 11.0)
    list(shares.merge())
    shares.commit()
    counted = shares._by_cell[0] = Counted(shares._by_cell[0])
    for number in range(50):
        shares.set(0, f"s-{number}", number, 12.0 + number)
        assert list(shares.merge()) == [(0, float(number), 12.0 + number)]
        shares.commit()
    assert counted.looks == 0
