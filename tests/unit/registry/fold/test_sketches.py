"""Summaries in a shard: what a window holds, that its cells are used again, and that stock readers never see them."""

from collections import Counter
from pathlib import Path

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.registry.series.sketch import WINDOW, bin_of, quantile
from busmon.registry.storage.values import ValueFile
from tests.unit.registry.registries import NOW, Registry, fresh_directory
from tests.unit.registry.series.test_sketch import covers

STEP = WINDOW.step_seconds
LAP = STEP * (WINDOW.steps + 1)


def size(*values: float) -> dict[str, object]:
    return {"name": "request_size_bytes", "values": list(values)}


def window(directory: Path, now: float, number: int = 0) -> Counter[str]:
    """Read the window from the file: counts by bin."""
    file = ValueFile(directory / f"sketch_shard{number}.bins")
    counts: Counter[str] = Counter()
    for key, slot in file.entries():
        name, labels, step_slot, bin_ = orjson.loads(key)
        value, start = file.doubles[slot], file.doubles[slot + 1]
        assert (name, labels, step_slot) == ("request_size_bytes", {}, WINDOW.slot(start))
        if covers(WINDOW, start, now):
            counts[bin_] += int(value)
    file.close()
    return +counts


def test_a_summarys_quantiles_are_of_its_window_alone(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(size(*[5.0] * 10), now=NOW)
        registry.commit()
        registry.fold(size(800.0), now=NOW + STEP)
        registry.commit()
        assert quantile(window(tmp_path, NOW + STEP), 0.5) < 6
        later = NOW + WINDOW.seconds + STEP
        assert window(tmp_path, later) == {bin_of(800.0): 1}
        assert window(tmp_path, later + STEP) == {}
        assert "request_size_bytes_count 11.0" in registry.text()


def test_a_cell_is_used_again_in_each_lap_and_counts_from_zero(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for lap in range(4):
            registry.fold(size(5.0, 5.0), now=NOW + lap * LAP)
            registry.commit()
            registry.fold(size(5.0), now=NOW + lap * LAP)
            registry.commit()
            assert window(tmp_path, NOW + lap * LAP) == {bin_of(5.0): 3}
        assert len(registry.shard._files.columns["sketch"].slots) == 1


def test_a_batch_that_stays_open_for_a_lap_keeps_the_later_counts(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(size(5.0, 5.0), now=NOW)
        registry.fold(size(5.0), now=NOW + LAP)
        registry.commit()
        assert window(tmp_path, NOW + LAP) == {bin_of(5.0): 1}


def test_a_sketch_is_found_again_and_what_is_rolled_back_is_not_in_it(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(size(5.0, -3.0, 0.0))
        registry.commit()
    with Registry(tmp_path) as registry:
        registry.fold(size(5.0, 7.0))
        registry.shard.rollback()
        registry.fold(size(5.0))
        registry.commit()
        assert window(tmp_path, NOW) == {bin_of(5.0): 2, bin_of(-3.0): 1, "z": 1}
        assert len(registry.shard._files.columns["sketch"].slots) == 3


times = st.integers(0, 40).map(lambda step: NOW + step * STEP / 2)
batches = st.lists(st.tuples(times, st.lists(st.sampled_from([1.0, 2.0, -5.0, 0.0]), max_size=4)), max_size=12)


@settings(deadline=None, max_examples=50)
@given(batches, st.booleans())
def test_the_window_holds_what_was_observed_in_it(
    taken: list[tuple[float, list[float]]],
    reopened: bool,  # noqa: FBT001 - hypothesis passes it by name
) -> None:
    taken = sorted(taken, key=lambda pair: pair[0])
    with fresh_directory() as directory:
        registry = Registry(directory)
        for now, values in taken:
            registry.fold(size(*values), now=now)
            registry.commit(now)
            if reopened:
                registry.shard.close()
                registry = Registry(directory)
        registry.fold(size(1.0), now=NOW)  # so that there is a file; of no account at the last batch's time
        registry.shard.rollback()
        registry.commit()
        registry.shard.close()
        if not any(values for _, values in taken):
            return
        end = taken[-1][0]
        observed = [value for now, values in taken if covers(WINDOW, WINDOW.start(now), end) for value in values]
        assert window(directory, end) == Counter(map(bin_of, observed))
