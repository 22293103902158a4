"""Sums beyond the largest double: one of what was published stays there, and a value that says one is refused."""

from pathlib import Path
from typing import Any

import pytest

from busmon.registry.scrape.exposition import Exposition
from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Envelope
from busmon.wire.floats import LARGEST
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import NOW, Registry, parsed, scrape, series

HALF = 1e308
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "histogram": ({"name": "wait_seconds", "type": "histogram"}, "wait_seconds_sum"),
    "summary": ({"name": "wait_seconds", "type": "summary"}, "wait_seconds_sum"),
    "counter": ({"name": "waited_seconds_total", "type": "counter"}, "waited_seconds_total"),
    "gauge that adds": ({"name": "wait_seconds", "type": "gauge", "op": "add"}, "wait_seconds"),
}


def shown(directory: Path, name: str, **labels: str) -> float:
    return parsed(scrape(directory, "wait"))[series(name, **labels)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batches", [1, 2])
def test_a_sum_in_one_shard_stays_at_the_largest_float(form: str, batches: int, tmp_path: Path) -> None:
    sample, name = FORMS[form]
    with Registry(tmp_path) as registry:
        for _ in range(batches):
            for _ in range(2 // batches):
                registry.fold(sample | {"value": HALF})
            registry.commit()
        assert shown(tmp_path, name) == LARGEST
        assert registry.rejected() == {}


@pytest.mark.parametrize("form", FORMS)
def test_so_does_one_over_the_shards(form: str, tmp_path: Path) -> None:
    sample, name = FORMS[form]
    for shard in range(3):
        with Registry(tmp_path, shard) as registry:
            registry.fold(sample | {"value": HALF}, source=f"s-{shard}")
            registry.commit()
    assert shown(tmp_path, name) == LARGEST
    assert "+Inf" not in scrape(tmp_path, name)


def test_infinity_that_another_writer_has_is_served_as_it_is(tmp_path: Path) -> None:
    from prometheus_client.mmap_dict import MmapedDict, mmap_key  # noqa: PLC0415 - it reads the environment when imported

    with Registry(tmp_path) as registry:
        registry.fold({"name": "waited_seconds_total", "type": "counter", "value": HALF})
        registry.commit()
    other = MmapedDict(str(tmp_path / "counter_17.db"))  # type: ignore[no-untyped-call]
    key = mmap_key("waited_seconds", "waited_seconds_total", [], [], "Of another writer")
    other.write_value(key, float("inf"), NOW)  # type: ignore[no-untyped-call]
    other.close()  # type: ignore[no-untyped-call]
    assert shown(tmp_path, "waited_seconds_total") == float("inf")


def test_the_buckets_and_the_count_of_such_a_histogram_are_exact(tmp_path: Path) -> None:
    for shard in range(2):
        with Registry(tmp_path, shard) as registry:
            registry.fold({"name": "wait_seconds", "type": "histogram", "value": HALF}, source=f"s-{shard}")
            registry.commit()
    assert shown(tmp_path, "wait_seconds_bucket", le="+Inf") == shown(tmp_path, "wait_seconds_count") == 2


@pytest.mark.parametrize(
    "sample",
    [
        {"values": [HALF, HALF]},
        {"buckets": {"+Inf": 2}, "sum": 2e308},
        {"value": 2e308},
    ],
)
def test_a_sum_that_a_sample_cant_hold_is_refused(sample: dict[str, Any], tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.shard.fold.envelope(_envelope({"name": "wait_seconds", "type": "histogram", **sample}), NOW)
        registry.commit()
        assert scrape(tmp_path, "wait") == ""
        assert registry.rejected() == {"non_finite": 1}


def _envelope(sample: dict[str, Any]) -> Any:
    """An envelope with floats that JSON can't hold, as a decoder of another kind might let them through."""
    return Envelope("s", "a", NOW, [sample], [])


@pytest.mark.parametrize("kind", ["text", "openmetrics"])
def test_a_total_of_another_format_beyond_it_is_refused_and_the_last_one_stays(kind: str, tmp_path: Path) -> None:
    content_type = "application/openmetrics-text" if kind == "openmetrics" else None
    end = "# EOF\n" if kind == "openmetrics" else ""
    with Registry(tmp_path) as registry:
        for count, total in ((1, "1e308"), (2, "+Inf"), (3, "2e308")):
            lines = f'wait_seconds_bucket{{le="+Inf"}} {count}\nwait_seconds_count {count}\nwait_seconds_sum {total}\n'
            body = f"# TYPE wait_seconds histogram\n{lines}{end}".encode()
            at = NOW + count
            registry.shard.fold.envelope(DECODERS["prometheus"](Arrival(body, content_type, None, 1 << 20)), at)
            registry.commit(at)
        assert shown(tmp_path, "wait_seconds_sum") == HALF
        assert shown(tmp_path, "wait_seconds_count") == 1
        assert registry.rejected() == {"non_finite": 2}


def test_a_gauge_that_goes_from_minus_zero_to_zero_is_shown_as_a_new_scrape_has_it(tmp_path: Path) -> None:
    following = Exposition(tmp_path)
    with Registry(tmp_path) as registry:
        for value in (-0.0, 0.0):
            registry.fold({"name": "wait_seconds", "type": "gauge", "value": value})
            registry.commit()
            assert following.text() == Exposition(tmp_path).text()
            assert b"-0" not in following.text()
