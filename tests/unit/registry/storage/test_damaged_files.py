"""Nothing breaks a scrape: a file that is empty, torn, foreign or at odds is named, and the rest is served."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict

from busmon.errors import RegistryError
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.scrape.tables import ValueTable
from busmon.registry.storage.journal import Journal
from tests.unit.registry import stock
from tests.unit.registry.registries import NOW, Registry, fresh_directory, parsed
from tests.unit.registry.stock import FAMILIES, Content, Entry, contents

HITS = {"counter_7.db": [Entry(FAMILIES[0], (), (7,), 0)]}
TASKS = Entry(FAMILIES[1], ("a", "b"), (9,), 0)
TASKS_TEXT = b'tasks_total{a="b",b="a"} 9.0\n'


def damaged(content: Content, name: str) -> tuple[stock.Figures, set[str]]:
    """Collect the undamaged files alone, and the families of the damaged file."""
    theirs = {entry.family.name for entry in content[name]}
    with fresh_directory() as directory:
        stock.write(directory, {file: entries for file, entries in content.items() if file != name})
        return stock.oracle(directory), theirs


def served_beside(directory: Path, content: Content, name: str) -> Exposition:
    """Scrape twice, and hold the scrape to what all other files say."""
    exposition = Exposition(directory)
    expected, theirs = damaged(content, name)
    for _ in range(2):
        served = stock.figures(exposition.text())
        for key, value in expected.items():
            if not key[0].startswith(tuple(theirs)):
                assert served[key] == value
    return exposition


@settings(max_examples=60, deadline=None)
@given(contents(), st.data())
def test_a_file_cut_at_any_byte_is_named(content: Content, data: st.DataObject) -> None:
    assume(content)
    name = data.draw(st.sampled_from(sorted(content)))
    with fresh_directory() as directory:
        stock.write(directory, content)
        whole = (directory / name).read_bytes()
        used = int.from_bytes(whole[:4], "little")
        (directory / name).write_bytes(whole[: data.draw(st.integers(0, used - 1) | st.integers(used, len(whole)))])
        exposition = served_beside(directory, content, name)
        assert set(exposition.skipped) == ({name} if (directory / name).stat().st_size < used else set())


@settings(max_examples=150, deadline=None)
@given(contents(), st.data())
def test_a_flipped_bit_costs_its_own_file_at_most(content: Content, data: st.DataObject) -> None:
    assume(content)
    name = data.draw(st.sampled_from(sorted(content)))
    with fresh_directory() as directory:
        stock.write(directory, content)
        flipped = bytearray((directory / name).read_bytes())
        at = data.draw(st.integers(0, int.from_bytes(flipped[:4], "little") - 1))
        flipped[at] ^= 1 << data.draw(st.integers(0, 7))
        (directory / name).write_bytes(flipped)
        exposition = served_beside(directory, content, name)
        assert set(exposition.skipped) <= set(content)


@settings(max_examples=60, deadline=None)
@given(contents(), st.binary(max_size=200))
def test_any_bytes_in_a_files_place_cost_that_file_at_most(content: Content, foreign: bytes) -> None:
    with fresh_directory() as directory:
        stock.write(directory, content)
        name = "summary_99.db"
        (directory / name).write_bytes(foreign)
        exposition = served_beside(directory, content | {name: []}, name)
        assert set(exposition.skipped) <= {name}


@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("counter_9.db", b""),
        ("counter_9.db", b"abc"),
        ("counter_9.db", b"-- a text that somebody put here, which is no value file at all --\n" * 9),
        ("counter_9.db", b"\xff\xff\xff\x7f" + bytes(60)),
        ("counter_9.db", b"\x01\x00\x00\x80" + bytes(60)),
        ("counter_9.db", b"\x10\x00\x00\x00\x00\x00\x00\x00\xf8\xff\xff\xff" + bytes(60)),
        ("notes.db", b"SQLite format 3\0" * 9),
    ],
    ids=["empty", "three bytes", "text", "2 GB used", "negative", "a key of -8 bytes", "SQLite"],
)
def test_a_foreign_file_is_named_and_the_rest_is_served(name: str, foreign: bytes, tmp_path: Path) -> None:
    stock.write(tmp_path, HITS)
    (tmp_path / name).write_bytes(foreign)
    exposition = Exposition(tmp_path)
    assert parsed(exposition.text()) == parsed("# TYPE hits counter\nhits_total 7.0\n")
    assert set(exposition.skipped) == {name}
    assert "\n" not in exposition.skipped[name]


KEYS = {
    "no JSON": "hits",
    "no list": '{"a": 1}',
    "too short": '["hits", "hits_total", {}]',
    "labels in a list": '["hits", "hits_total", [], "h"]',
    "a label value that is a number": '["hits", "hits_total", {"a": 1}, "h"]',
    "a help that is null": '["hits", "hits_total", {}, null]',
    "a name that spoils the text": '["a b", "a b_total", {}, "h"]',
    "a line break in a name": '["hits\\nx", "hits\\nx_total", {}, "h"]',
    "a label's name that spoils the text": '["hits", "hits_total", {"a=\\"": "x"}, "h"]',
    "another family's sample": '["hits", "other_total", {}, "h"]',
    "a counter without its suffix": '["hits", "hits", {}, "h"]',
    "a part alone": '["hits", "_total", {}, "h"]',
    "another type's part": '["hits", "hits_bucket", {"le": "1.0"}, "h"]',
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_key_that_is_not_stocks_is_left_out_and_its_file_named(key: str, tmp_path: Path) -> None:
    file = MmapedDict(str(tmp_path / "counter_9.db"))  # type: ignore[no-untyped-call]
    file.write_value(key, 1.0, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    stock.write(tmp_path, {"counter_9.db": [TASKS]})
    exposition = Exposition(tmp_path)
    assert exposition.text().endswith(TASKS_TEXT)
    assert set(exposition.skipped) == {"counter_9.db"}


@pytest.mark.parametrize("le", [None, "x", "NaN"])
def test_a_bucket_without_a_bound_is_left_out(le: str | None, tmp_path: Path) -> None:
    labels = "{}" if le is None else f'{{"le": "{le}"}}'
    file = MmapedDict(str(tmp_path / "histogram_9.db"))  # type: ignore[no-untyped-call]
    file.write_value(f'["waits", "waits_bucket", {labels}, "h"]', 1.0, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]
    exposition = Exposition(tmp_path)
    assert exposition.text() == b""
    assert set(exposition.skipped) == {"histogram_9.db"}


def test_a_family_of_another_type_is_named_and_its_files_other_families_are_served(tmp_path: Path) -> None:
    clash = FAMILIES[4]._replace(name="hits", labelnames=())
    other = FAMILIES[4]._replace(name="others", labelnames=())
    content = HITS | {"summary_7.db": [Entry(clash, (), (1, 2), 0), Entry(other, (), (3, 4), 0)]}
    stock.write(tmp_path, content)
    exposition = Exposition(tmp_path)
    for value in (1, 2, 3):
        stock.write(tmp_path, {"summary_7.db": [Entry(clash, (), (value, value), 0)]})
        served = parsed(exposition.text())
        assert served == parsed("hits_total 7.0\nothers_count 3.0\nothers_sum 4.0\n")
        assert exposition.skipped == {"summary_7.db": "'hits' is a summary here and a counter in another file"}


def test_a_gauge_merged_in_two_ways_is_exposed_once(tmp_path: Path) -> None:
    for column in ("gauge_max", "gauge_min"):
        family = FAMILIES[10]._replace(column=column)
        stock.write(tmp_path, {f"{column}_7.db": [Entry(family, ("x",), (len(column),), 1)]})
    exposition = Exposition(tmp_path)
    assert parsed(exposition.text()) == parsed('idle{a="x"} 9.0\n')
    assert exposition.skipped == {"gauge_min_7.db": "'idle' is a gauge_min here and a gauge_max in another file"}


def test_what_is_named_is_forgotten_when_the_file_is_whole_again_or_gone(tmp_path: Path) -> None:
    path, exposition = tmp_path / "counter_7.db", Exposition(tmp_path)
    stock.write(tmp_path, HITS)
    whole = path.read_bytes()
    for damage in (b"", whole[:3], whole[:40]):
        path.write_bytes(damage)
        assert exposition.text() == b""
        assert set(exposition.skipped) == {path.name}
        path.write_bytes(whole)
        assert b"hits_total 7.0" in exposition.text()
        assert exposition.skipped == {}
    path.write_bytes(b"")
    exposition.text()
    path.unlink()
    assert exposition.text() == b""
    assert exposition.skipped == {}


def test_a_file_that_stock_has_made_and_not_begun_is_empty(tmp_path: Path) -> None:
    """Stock truncates to its size first, and writes what is used later: a scrape may come between."""
    (tmp_path / "counter_7.db").write_bytes(bytes(1 << 16))
    exposition = Exposition(tmp_path)
    assert exposition.text() == b""
    assert exposition.skipped == {}
    stock.write(tmp_path, HITS)
    assert b"hits_total 7.0" in exposition.text()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    stock.write(tmp_path, HITS)
    (tmp_path / "counter_8.db").mkdir()
    (tmp_path / "counter_9.db").symlink_to(tmp_path / "counter_9.db")
    exposition = Exposition(tmp_path)
    assert b"hits_total 7.0" in exposition.text()
    assert set(exposition.skipped) == {"counter_8.db", "counter_9.db"}


def test_a_file_that_goes_while_it_is_read_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ValueTable.read

    def lose(table: ValueTable) -> None:
        if table.writer == "8":
            (tmp_path / "counter_8.db").unlink()
        read(table)

    stock.write(tmp_path, HITS | {"counter_8.db": HITS["counter_7.db"]})
    exposition = Exposition(tmp_path)
    assert b"hits_total 14.0" in exposition.text()
    monkeypatch.setattr(ValueTable, "read", lose)
    assert b"hits_total 7.0" in exposition.text()
    assert exposition.skipped == {}


def test_a_directory_that_is_not_there_has_nothing_to_say(tmp_path: Path) -> None:
    exposition = Exposition(tmp_path / "none")
    assert exposition.text() == b""
    assert exposition.skipped == {}


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damage_in_a_journal_costs_no_more_than_its_name_in_the_list(data: st.DataObject) -> None:
    with fresh_directory() as directory:
        with Registry(directory) as registry:
            registry.fold({"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 3})
            registry.commit()
        journal = directory / "shard0.journal"
        with journal.open("r+b") as stream:
            head = bytearray(stream.read(200))
            if data.draw(st.booleans()):
                head[data.draw(st.integers(0, 199))] ^= data.draw(st.integers(1, 255))
                stream.seek(0)
                stream.write(head)
            else:
                os.ftruncate(stream.fileno(), data.draw(st.integers(0, 200)))
        exposition = Exposition(directory)
        assert b'votes_cast_total{type="upvote"} 3.0' in exposition.text()
        assert set(exposition.skipped) <= {"shard0.journal"}


VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 3}
WAIT = {"name": "task_duration_seconds", "labels": {"agent": "a"}, "value": 1}


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A shard whose first commit is in its journal's snapshot, and whose second is a record."""
    for _ in range(2):
        with Registry(tmp_path) as registry:
            registry.fold(VOTE, WAIT)
            registry.commit()
            registry.shard._state.checkpoint(NOW)
            registry.fold(VOTE)
            registry.commit()
    return tmp_path


def zero_the_first_page(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(bytes(4096))


def zero_the_header(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write(bytes(8))


def empty(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.write((8).to_bytes(4, "little"))


def zero_an_entry(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(8)
        stream.write(bytes(64))


def cut(path: Path) -> None:
    os.truncate(path, 100)


def begin_again(path: Path) -> None:
    path.write_bytes((8).to_bytes(4, "little") + bytes(65_532))


DAMAGES = [zero_the_first_page, zero_the_header, empty, zero_an_entry, cut, begin_again, Path.unlink]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", ["counter_shard0.db", "histogram_shard0.db"])
def test_a_damaged_value_file_is_named_by_owner_and_scrape(
    name: str, damage: Callable[[Path], None], shard: Path
) -> None:
    damage(shard / name)
    exposition = Exposition(shard)
    exposition.text()
    assert name in exposition.skipped
    for _ in range(2):
        with pytest.raises(RegistryError) as refusal:
            Registry(shard)
        line = str(refusal.value)
        assert "\n" not in line
        assert line.startswith(str(shard / name))
        assert "restore the registry directory from a backup, or move this shard's files away" in line


@pytest.mark.parametrize("at", [14, 20, 26, 40])
@pytest.mark.parametrize("bit", [1, 128])
def test_damage_in_a_key_is_named_even_where_it_is_still_one(at: int, bit: int, shard: Path) -> None:
    path = shard / "counter_shard0.db"
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)
    with pytest.raises(RegistryError, match=r"counter_shard0\.db: "):
        Registry(shard)


def test_what_was_damaged_is_served_again_when_it_is_restored(shard: Path) -> None:
    path, exposition = shard / "counter_shard0.db", Exposition(shard)
    whole = path.read_bytes()
    assert b'votes_cast_total{type="upvote"} 12.0' in exposition.text()
    path.unlink()
    exposition.text()
    assert set(exposition.skipped) == {path.name}
    path.write_bytes(whole)
    assert b'votes_cast_total{type="upvote"} 12.0' in exposition.text()
    assert exposition.skipped == {}
    with Registry(shard) as registry:
        registry.fold(VOTE)
        registry.commit()
        assert b'votes_cast_total{type="upvote"} 15.0' in exposition.text()


def test_a_shard_begins_again_where_its_files_were_moved_away(shard: Path) -> None:
    (shard / "counter_shard0.db").unlink()
    for path in [*shard.glob("*_shard0.*"), *shard.glob("shard0.*")]:
        path.rename(path.with_name(f"{path.name}.away"))
    with Registry(shard) as registry:
        registry.fold(VOTE)
        registry.commit()
        assert b'votes_cast_total{type="upvote"} 3.0' in Exposition(shard).text()


def test_keys_that_were_written_before_a_kill_and_not_noted_are_no_damage(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry(shard) as registry:
        registry.fold({"name": "votes_cast_total", "labels": {"type": "downvote"}, "value": 3})
        with monkeypatch.context() as dying:
            dying.setattr(Journal, "note", lambda *_: None)
            registry.shard._files.write_keys()
    with Registry(shard) as registry:
        registry.fold({"name": "votes_cast_total", "labels": {"type": "downvote"}, "value": 3})
        registry.commit()
    with Registry(shard) as registry:
        assert 'votes_cast_total{type="downvote"} 3.0' in registry.text("votes_cast_total")
