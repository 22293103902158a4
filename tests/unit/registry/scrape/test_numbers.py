"""The numbers of a file are gathered as the file has them, however it grows and whatever changes in between."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from busmon.errors import RegistryError
from busmon.registry.scrape import numbers
from busmon.registry.scrape.numbers import EntryNumbers
from busmon.registry.scrape.tables import ValueTable
from tests.unit.registry.registries import fresh_directory

FLOATS = st.floats(allow_nan=False)
WRITES = st.lists(st.tuples(st.integers(0, 40), FLOATS, FLOATS), max_size=60)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "_BLOCK", 4)
    monkeypatch.setattr(numbers, "_STEP_BYTES", 24)


def key_of(number: int) -> str:
    """Keys of many lengths, so that no two entries are equally far apart."""
    return str(mmap_key("hits", "hits_total", ["page"], ["x" * (number * 7 % 23) + str(number)], "Hits"))


@settings(max_examples=100, deadline=None)
@given(st.lists(WRITES, min_size=1, max_size=6), st.booleans(), st.booleans())
def test_each_reading_has_the_numbers_of_the_file_and_names_what_changed(
    readings: list[list[tuple[int, float, float]]],
    timed: bool,  # noqa: FBT001 - drawn
    is_owned: bool,  # noqa: FBT001 - drawn
) -> None:
    with fresh_directory() as directory:
        path = directory / ("counter_shard0.db" if is_owned else "counter_9.db")
        file = MmapedDict(str(path))  # type: ignore[no-untyped-call]
        table = ValueTable(path, timed=timed, is_owned=is_owned)
        before: list[tuple[str, float, float]] = []
        for writes in readings:
            for number, value, at in writes:
                file.write_value(key_of(number), value, at)  # type: ignore[no-untyped-call]
            table.read()
            now = list(file.read_all_values())  # type: ignore[no-untyped-call]
            keys, changed = table.take()
            assert [key.decode() for key in keys] == [key for key, _, _ in now[len(before) :]]
            assert table.values.tolist() == [0.0, *(value for _, value, _ in now)]
            assert table.times.tolist() == [0.0, *(at for _, _, at in now if timed)]
            differ = [old[1 : 2 + timed] != new[1 : 2 + timed] for old, new in zip(before, now, strict=False)]
            assert {*changed} == {entry for entry, is_other in enumerate(differ, 1) if is_other}
            before = now
        file.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("is_compiled", [True, False])
def test_a_file_that_is_cut_short_while_it_is_read_is_an_error(tmp_path: Path, is_compiled: bool) -> None:  # noqa: FBT001
    path = tmp_path / "counter_9.db"
    slots = [0, *range(3, 53, 5)]
    path.write_bytes(bytes(8 * (slots[-1] + 2)))
    gathered = EntryNumbers(timed=False, is_compiled=is_compiled)
    with path.open("r+b") as stream:
        assert gathered.gather(stream.fileno(), slots) == []
        assert gathered.gather(stream.fileno(), slots) == []
        os.truncate(path, 8 * (slots[-1] + 1))
        with pytest.raises(RegistryError, match="it ends before byte 400"):
            gathered.gather(stream.fileno(), slots)
