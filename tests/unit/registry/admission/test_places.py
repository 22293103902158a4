"""The log of places: followed by every process, through kills in the middle of a line and through its rewriting."""

from pathlib import Path

import pytest

from busmon.errors import RegistryError
from busmon.registry.admission import places as log_of_places
from busmon.registry.admission.census import MAX_SHARDS, Census
from busmon.registry.admission.places import FILE_NAME, REWRITE_BYTES, Place, Places


def place(value: str) -> Place:
    return Place("hits_total", "page", value)


def taken(places: Places) -> dict[str, float]:
    places.refresh()
    return dict(places.find_taken("hits_total", "page"))


def test_what_one_process_takes_all_others_see(tmp_path: Path) -> None:
    first, second = Places(tmp_path), Places(tmp_path)
    first.take([place("a"), place("b")], 7.0)
    assert taken(second) == {"a": 7.0, "b": 7.0}
    second.give_back([place("a")])
    returns = first.returns
    assert taken(first) == {"b": 7.0} == taken(Places(tmp_path))
    assert first.returns > returns


def test_a_line_that_its_writer_died_in_is_written_over(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.take([place("a")], 7.0)
    with (tmp_path / FILE_NAME).open("ab") as log:
        log.write(b'["hits_total","page","torn')
    assert taken(places) == {"a": 7.0}
    places.take([place("b")], 8.0)
    assert taken(Places(tmp_path)) == {"a": 7.0, "b": 8.0}


def test_a_log_that_is_mostly_history_is_written_anew_under_its_readers(tmp_path: Path) -> None:
    first, second = Places(tmp_path), Places(tmp_path)
    number = first.number("others_total"), first.number("hits_total")
    for i in range(3000):
        first.take([place(f"value {i}")], float(i))
        second.refresh()
        second.give_back([place(f"value {i - 10}")] if i >= 10 else [])
        first.refresh()
    assert (tmp_path / FILE_NAME).stat().st_size < 2 * REWRITE_BYTES
    assert taken(first) == taken(second) == {f"value {i}": float(i) for i in range(2990, 3000)}
    assert (second.number("others_total"), second.number("hits_total")) == number


def test_lost_values_are_bounded_and_the_last_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents with rotating names lose a place each."""
    monkeypatch.setattr(log_of_places, "MAX_LOST", 100)
    monkeypatch.setattr(log_of_places, "REWRITE_BYTES", 1000)
    rewrite, rewritten = Places._rewrite, [0]

    def count(log: Places) -> None:
        rewritten[0] += 1
        rewrite(log)

    monkeypatch.setattr(Places, "_rewrite", count)
    first, second = Places(tmp_path), Places(tmp_path)
    for i in range(1000):
        first.take([place(f"value {i}")], float(i))
        first.give_back([place(f"value {i}")], are_lost=True)
        second.refresh()
    last = [place(f"value {i}") for i in range(900, 1000)]
    assert [*first.lost] == [*second.lost] == [*Places(tmp_path).lost] == last
    assert (tmp_path / FILE_NAME).stat().st_size < 3 * 100 * len('["hits_total","page","value 999",null,"lost"]\n')
    assert 5 < rewritten[0] < 30  # the lost values alone cause no rewrite
    first.take([place("value 950")], 1000.0)
    second.refresh()
    assert place("value 950") not in first.lost
    assert [*second.lost] == [*first.lost]


def test_a_family_keeps_its_number(tmp_path: Path) -> None:
    first, second = Places(tmp_path), Places(tmp_path)
    assert first.number("a") == 0
    second.refresh()
    assert [second.number("b"), second.number("a")] == [1, 0]


def test_a_foreign_log_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"hello\n")
    with pytest.raises(RegistryError, match=r"places\.jsonl: expected a place on each line"):
        Places(tmp_path)


def test_counts_are_shared_by_shard_and_survive_growth(tmp_path: Path) -> None:
    first, second = Census(tmp_path), Census(tmp_path)
    assert first.of(500) == first.total() == 0
    first.write(0, 0, 3)
    second.write(0, MAX_SHARDS - 1, 4)
    second.write(500, 1, 5)
    first.write_total(0, 3)
    assert (first.of(0), first.of(500), first.total()) == (7, 5, 3)
    first.write(0, 0, 1)
    assert second.of(0) == 5
    first.close()
    second.close()
