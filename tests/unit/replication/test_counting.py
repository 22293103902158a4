"""Every reader of a log counts the same records, wherever in the log it begins."""

from dataclasses import replace

import pytest

from busmon.errors import LogBrokenError, LogFormatError
from busmon.replication.counting import Base, Counted, Counting, Place, Rebuilt
from busmon.replication.participant import Participant, Role
from busmon.replication.records import (
    MAX_PART_BYTES,
    Birth,
    Kind,
    Marker,
    Probe,
    Record,
    decode,
    encode,
    make_birth,
    make_probe,
    split,
)

BIRTH = make_birth("log")


class Log:
    """A log, and participants that read all of it after each append."""

    def __init__(self, *hosts: str) -> None:
        self.bodies = [BIRTH]
        self.participants = {host: Participant(host) for host in hosts}
        self._read(BIRTH)

    def _read(self, body: bytes) -> None:
        for participant in self.participants.values():
            participant.read(decode(body), len(self.bodies) - 1)

    def append(self, *bodies: bytes) -> None:
        for body in bodies:
            self.bodies.append(body)
            self._read(body)

    def claim(self, host: str) -> None:
        self.append(self.participants[host].claim())
        assert self.participants[host].role is Role.OWNING

    def commit(self, host: str, payload: bytes, kind: Kind = Kind.COMMIT) -> None:
        self.append(*self.participants[host].append(payload, 1.0, kind))
        assert self.participants[host].in_flight is None

    @property
    def place(self) -> Place:
        return next(iter(self.participants.values())).counting.place


def read(bodies: list[bytes], start: int = 0, place: Place | None = None) -> tuple[Place, list[Counted]]:
    """Read a log from an offset on, with the state of a place if one is given."""
    counting = Counting()
    if place is not None:
        counting.resume(place)
    found = enumerate(bodies[start:], start)
    counted = [each for offset, body in found for each in counting.read(decode(body), offset)]
    return counting.place, counted


def payloads(counted: list[Counted]) -> list[bytes]:
    return [each.payload for each in counted if isinstance(each, Record)]


def test_a_reader_of_the_whole_log_counts_each_record_of_its_owners() -> None:
    log = Log("a", "b")
    log.claim("a")
    log.commit("a", b"1")
    log.claim("b")
    log.commit("b", b"2")

    place, counted = read(log.bodies)

    assert isinstance(counted[0], Base)
    assert payloads(counted) == [b"1", b"2"]
    assert (place, place.host, place.number, place.epoch) == (log.place, "b", 2, 2)


def test_a_reader_in_the_middle_begins_at_a_snapshot_that_its_owner_has_seen_count() -> None:
    log = Log("a")
    log.claim("a")
    log.commit("a", b"1")
    start = len(log.bodies)
    log.commit("a", b"2")
    log.commit("a", b"state", Kind.SNAPSHOT)

    assert read(log.bodies, start) == (Place(), [])

    log.commit("a", b"3")
    place, counted = read(log.bodies, start)

    assert isinstance(counted[0], Rebuilt)
    assert counted[0].snapshot.payload == b"state"
    assert payloads(counted) == [b"3"]
    assert place == log.place


def test_a_snapshot_that_a_marker_interrupts_is_no_beginning() -> None:
    log = Log("a", "b")
    log.claim("a")
    start = len(log.bodies)
    whole = b"x" * (MAX_PART_BYTES + 1)
    first, last = log.participants["a"].append(whole, 1.0, Kind.SNAPSHOT)
    log.append(first)
    log.claim("b")
    log.append(last)
    log.commit("b", b"1")

    assert read(log.bodies, start) == (Place(), [])
    assert payloads(read(log.bodies)[1]) == [b"1"]


def test_a_snapshot_of_an_owner_that_was_replaced_is_no_beginning() -> None:
    log = Log("a", "b")
    log.claim("a")
    late = log.participants["a"].append(b"state", 1.0, Kind.SNAPSHOT)
    log.claim("b")
    start = len(log.bodies)
    log.append(*late)
    log.commit("b", b"1")

    assert read(log.bodies, start) == (Place(), [])


def test_a_large_record_has_parts_and_others_entries_may_come_between() -> None:
    log = Log("a", "b")
    log.claim("a")
    payload = bytes(range(256)) * 10_000
    parts = log.participants["a"].append(payload, 1.0)
    assert [len(part) <= MAX_PART_BYTES + 1000 for part in parts] == [True] * 3
    for part in parts:
        log.append(part, make_probe("p"), encode(Marker("log", 1, "late", "b")))

    assert payloads(read(log.bodies)[1]) == [payload]
    assert log.participants["a"].in_flight is None


def test_a_missing_or_different_record_breaks_the_log() -> None:
    log = Log("a")
    log.claim("a")
    for payload in (b"1", b"2", b"3"):
        log.commit("a", payload)
    entry = decode(log.bodies[3])
    assert isinstance(entry, Record)
    [other] = split(replace(entry, payload=b"other"))

    with pytest.raises(LogBrokenError, match="missing after number 1"):
        read([*log.bodies[:3], log.bodies[4]])
    with pytest.raises(LogBrokenError, match="before number 3 is another"):
        read([*log.bodies[:3], other, log.bodies[4]])
    with pytest.raises(LogBrokenError, match="marker of epoch 1 is missing"):
        read([log.bodies[0], *log.bodies[2:]])


def test_another_log_of_the_same_name_breaks_it() -> None:
    for entry in (Birth("other"), Marker("other", 1, "x", "a")):
        with pytest.raises(LogBrokenError, match="another one"):
            read([BIRTH, encode(entry)])
    with pytest.raises(LogBrokenError, match="begins a second time"):
        read([BIRTH, BIRTH])


def test_an_own_marker_that_does_not_count_leaves_the_shard_to_the_other() -> None:
    log = Log("a", "b")
    first, second = log.participants["a"].claim(), log.participants["b"].claim()
    log.append(first, second)

    assert [each.role for each in log.participants.values()] == [Role.OWNING, Role.FOLLOWING]

    log.claim("b")

    assert [each.role for each in log.participants.values()] == [Role.FOLLOWING, Role.OWNING]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[1]\n", b'{"v":2,"entry":"probe","log":"","nonce":"","host":""}\n', b"\xff"]
)
def test_an_entry_of_another_version_stops_its_reader(body: bytes) -> None:
    with pytest.raises(LogFormatError):
        decode(body)


def test_every_kind_of_entry_comes_back() -> None:
    for entry in (Birth("log"), Marker("log", 3, "o", "h"), Probe("", "n", "h")):
        assert decode(encode(entry)) == entry
    record = Record("log", 3, "o", "h", 7, "d", 1.5, Kind.COMMIT, 0, 1, b"a\nb")
    assert [decode(body) for body in split(record)] == [record]


def test_a_reader_with_a_state_goes_on_at_the_last_record_of_its_state() -> None:
    log = Log("a", "b")
    log.claim("a")
    log.commit("a", b"1")
    log.commit("a", b"x" * (MAX_PART_BYTES + 1))
    place = log.place
    log.append(make_probe("nonce"))
    log.claim("b")
    log.commit("b", b"3")

    found, counted = read(log.bodies, place.offset, place)

    assert place.offset == 4
    assert (found, payloads(counted)) == (log.place, [b"3"])


def test_a_release_changes_nothing_that_counts() -> None:
    log = Log("a", "b")
    log.claim("a")
    log.commit("a", b"1")
    before = log.place
    log.append(log.participants["a"].release())
    assert (log.participants["a"].role, log.place) == (Role.FOLLOWING, before)
    log.claim("b")
    log.commit("b", b"2")
    assert payloads(read(log.bodies)[1]) == [b"1", b"2"]


def resume_after(place: Place, log: Log, offset: int) -> str:
    with pytest.raises(LogBrokenError) as caught:
        read(log.bodies, offset, place)
    return str(caught.value)


def test_a_reader_with_a_state_meets_a_log_that_is_not_the_one_of_its_state() -> None:
    first, second = Log("a"), Log("a")
    for log in (first, second):
        log.claim("a")
        log.commit("a", b"1")
        log.commit("a", b"2")
    place = first.place
    missing = f"record 2 isn't at offset {place.offset}, where the replica has it"

    assert resume_after(place, second, place.offset) == missing
    assert resume_after(place, first, place.offset - 1) == missing
    assert resume_after(place, first, 1) == missing
    assert resume_after(replace(place, log="other"), first, place.offset) == (
        "the log is another one: its stream was deleted and made again"
    )
    first.append(make_probe("nonce"))
    assert resume_after(place, first, place.offset + 1) == missing


def test_records_name_the_last_snapshot_that_a_reader_can_begin_with() -> None:
    log = Log("a", "b")
    log.claim("a")
    log.commit("a", b"1")
    assert log.place.snapshot == -1
    first = len(log.bodies)
    log.commit("a", b"s" * (MAX_PART_BYTES + 1), Kind.SNAPSHOT)
    assert log.place.snapshot == -1
    log.commit("a", b"2")
    assert log.place.snapshot == first
    log.commit("a", b"unconfirmed", Kind.SNAPSHOT)
    log.claim("b")
    log.commit("b", b"3")
    assert log.place.snapshot == first
    second = len(log.bodies)
    log.commit("b", b"state", Kind.SNAPSHOT)
    log.commit("b", b"4")
    assert log.place.snapshot == second
    log.commit("b", b"5")

    for start in (first, second):
        place, counted = read(log.bodies, start)
        assert isinstance(counted[0], Rebuilt)
        assert place == log.place
    last = decode(log.bodies[-1])
    assert isinstance(last, Record)
    assert last.snapshot == second
