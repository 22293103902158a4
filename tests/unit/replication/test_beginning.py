"""A reader without a state begins at the last snapshot, which it finds from the log's end."""

from busmon.replication.beginning import FIRST, LAST, Beginning, Start
from busmon.replication.records import Birth, Entry, Kind, Marker, Probe, Record

MARKER = Marker("log", 1, "owner", "a")


def record(snapshot: int) -> Record:
    return Record("log", 1, "owner", "a", 7, "", 1.0, Kind.COMMIT, 0, 1, b"{}", snapshot)


def read(beginning: Beginning, *found: tuple[Entry, int]) -> Start | None:
    for entry, offset in found:
        beginning.note(entry, offset)
    return beginning.go_back()


def test_the_last_records_name_the_snapshot() -> None:
    beginning = Beginning()
    assert beginning.start == LAST
    assert read(beginning, (record(100), 900), (record(500), 901), (Probe("", "x", "b"), 902)) == 500


def test_a_sign_of_life_of_a_host_that_has_read_the_log_names_it_too() -> None:
    assert read(Beginning(), (Probe("", "", "b", 500), 902), (Probe("", "x", "c"), 903)) == 500


def test_a_log_without_a_snapshot_is_read_from_its_first_entry() -> None:
    beginning = Beginning()
    assert read(beginning, (record(-1), 900)) == FIRST
    assert read(beginning, (Birth("log"), 0), (record(-1), 900)) is None


def test_a_snapshot_that_is_gone_has_the_log_read_from_its_first_entry() -> None:
    beginning = Beginning()
    assert read(beginning, (record(500), 900)) == 500
    assert read(beginning, (record(500), 700), (record(500), 900)) == FIRST
    assert read(beginning, (record(500), 700)) is None


def test_a_later_snapshot_is_tried_before_the_first_entry() -> None:
    beginning = Beginning()
    assert read(beginning, (record(500), 900)) == 500
    assert read(beginning, (record(500), 700), (record(800), 901)) == 800


def test_hosts_that_have_just_begun_say_nothing_so_the_reader_goes_further_back() -> None:
    beginning = Beginning()
    assert read(beginning, (Probe("", "x", "b"), 2000)) == 2000 - 64
    assert read(beginning, (MARKER, 1940), (Probe("", "x", "b"), 2000)) == 1940 - 16 * 64
    assert read(beginning, (record(300), 950)) == 300
    assert read(Beginning(), (Probe("", "x", "b"), 60)) == FIRST
