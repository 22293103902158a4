"""The journal: what is marked is read back whole, what is not does not exist, and damage is named, never trusted."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.errors import RegistryError
from busmon.registry.storage import journal as journals
from busmon.registry.storage.journal import Journal
from tests.unit.registry.registries import fresh_directory

payloads = st.lists(st.binary(min_size=1, max_size=60), max_size=8)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shard0.journal"


def written(path: Path, *payloads: bytes) -> Journal:
    journal = Journal.create(path, b"snapshot", fsync=False)
    for payload in payloads:
        journal.commit(payload, fsync=False)
        journal.clear()
    return journal


def reopened(path: Path) -> list[bytes]:
    journal = Journal.open(path, writable=True)
    try:
        return list(journal.records())
    finally:
        journal.close()


@settings(max_examples=50, deadline=None)
@given(payloads)
def test_every_marked_record_is_read_back_in_order(records: list[bytes]) -> None:
    with fresh_directory() as directory:
        journal = written(directory / "j", *records)
        assert list(journal.records()) == [b"snapshot", *records]
        journal.close()
        assert reopened(directory / "j") == [b"snapshot", *records]


def test_what_is_not_marked_does_not_exist(path: Path) -> None:
    journal = written(path, b"one")
    os.pwrite(journal.descriptor, b"\xff" * 100, journal._marked)
    assert reopened(path) == [b"snapshot", b"one"]
    journal.commit(b"two", fsync=True)
    journal.close()
    assert reopened(path) == [b"snapshot", b"one", b"two"]


def since_opened(journal: Journal) -> list[bytes]:
    """List the records that the value files may have lacked at any time since the journal was opened."""
    return list(journal.records_between(journal.opened.applied, journal.marks().marked))


def test_a_commit_that_is_not_said_to_be_applied_is_unapplied_at_the_next_opening(path: Path) -> None:
    journal = written(path, b"one")
    journal.commit(b"two", fsync=False)
    journal.close()
    reader = Journal.open(path, writable=True)
    assert reader.unapplied
    assert since_opened(reader) == [b"two"]
    reader.clear()
    reader.close()
    reader = Journal.open(path, writable=False)
    assert not reader.unapplied
    assert since_opened(reader) == []
    reader.close()


def test_a_record_whose_mark_alone_outlived_a_power_cut_did_not_happen(path: Path) -> None:
    journal = written(path, b"one")
    end = journal._marked
    journal.commit(b"two" * 100, fsync=True)
    os.pwrite(journal.descriptor, bytes(300), end)  # the page of the record was still on its way
    journal.close()
    owner = Journal.open(path, writable=True)
    assert list(owner.records()) == [b"snapshot", b"one"]
    owner.clear()
    owner.commit(b"three", fsync=True)
    owner.close()
    assert reopened(path) == [b"snapshot", b"one", b"three"]


def test_a_record_that_was_applied_is_not_given_up(path: Path) -> None:
    journal = written(path, b"one", b"two")
    os.pwrite(journal.descriptor, bytes(3), journal._marked - 3)
    journal.close()
    owner = Journal.open(path, writable=True)
    with pytest.raises(RegistryError, match="is torn"):
        list(owner.records())
    owner.close()


def test_a_reader_sees_what_was_committed_since_it_opened(path: Path) -> None:
    writer = written(path, b"one")
    reader = Journal.open(path, writable=False)
    for payload in (b"two", b"three"):
        writer.commit(payload, fsync=False)
        writer.clear()
    assert since_opened(reader) == [b"two", b"three"]
    writer.close()
    reader.close()


def test_room_is_for_whole_records(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "CAPACITY_BYTES", 100)
    journal = written(path)
    assert journal.has_room(bytes(92))
    assert not journal.has_room(bytes(93))
    journal.commit(bytes(92), fsync=False)
    assert not journal.has_room(b"")
    journal.close()


def test_a_record_larger_than_the_journal_is_read_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "CAPACITY_BYTES", 100)
    written(path, b"x" * 1000).close()
    assert reopened(path) == [b"snapshot", b"x" * 1000]


def test_a_record_that_is_written_in_part_is_not_marked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = written(path, b"one")
    whole_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, content, at: whole_pwrite(descriptor, content[:7], at))
    with pytest.raises(OSError, match="No space left"):
        journal.commit(b"two", fsync=False)
    monkeypatch.undo()
    assert reopened(path) == [b"snapshot", b"one"]
    journal.commit(b"three", fsync=False)
    journal.close()
    assert reopened(path) == [b"snapshot", b"one", b"three"]


def test_a_commit_that_the_disk_did_not_flush_did_not_happen(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = written(path, b"one")
    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        journal.commit(b"two", fsync=True)
    assert reopened(path) == [b"snapshot", b"one"]
    journal.close()


def test_a_journal_that_finds_no_room_leaves_the_old_one_and_nothing_else(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    written(path, b"one").close()
    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(OSError, match="No space left"):
        Journal.create(path, b"another", fsync=False)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert reopened(path) == [b"snapshot", b"one"]


@pytest.mark.parametrize(
    "content",
    [b"", b"busmonJ1", b"busmonJ2" + bytes(16), b"busmonJ1" + b"\xff" * 16, b"busmonJ1" + bytes(16), b"{}" * 100],
    ids=["empty", "cut", "another version", "marks beyond the end", "marks at 0", "foreign"],
)
def test_a_foreign_file_is_named_in_one_line(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(RegistryError, match=r"shard0\.journal: ") as refusal:
        Journal.open(path, writable=False)
    assert "\n" not in str(refusal.value)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damage_at_any_byte_is_found_or_of_no_matter(data: st.DataObject) -> None:
    records = [b"one", b"two" * 9, b"three"]
    with fresh_directory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(journals, "CAPACITY_BYTES", 0)
        written(directory / "j", *records).close()
        content = bytearray((directory / "j").read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        end = data.draw(st.just(len(content)) | st.integers(0, len(content)))
        (directory / "j").write_bytes(content[:end])
        try:
            found = reopened(directory / "j")
        except RegistryError:
            return
        assert found == [b"snapshot", *records][: len(found)]
