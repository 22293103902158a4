"""A bounded cache never has more than its most."""

from busmon.bounded import BoundedCache


def test_a_full_cache_is_emptied_before_it_grows() -> None:
    cache: BoundedCache[int, str] = BoundedCache(2)
    entries = cache.entries
    cache.keep(1, "a")
    cache.keep(2, "b")
    assert entries == {1: "a", 2: "b"}
    cache.keep(3, "c")
    assert entries == {3: "c"}
    cache.clear()
    assert entries == {}
