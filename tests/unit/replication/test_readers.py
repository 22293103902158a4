"""Every reader of a log has one state at its end, wherever it begins: with a state, or at a snapshot that it finds."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.errors import LogBrokenError
from busmon.replication.beginning import FIRST, LAST, Beginning, Start
from busmon.replication.counting import Counting, Place, Rebuilt
from busmon.replication.participant import Participant, Role
from busmon.replication.records import Kind, Record, decode, make_birth, make_probe

HOSTS = "abc"


class Log:
    """A log that hosts write to by chance, and the state of a reader of all of it after each entry.

    A state is the payloads that count; a snapshot's payload is a digest of the state.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self.chance = random.Random(seed)
        self.bodies = [make_birth("log")]
        self.places: list[Place] = []
        self.states: list[str] = []
        self._hosts = {host: Participant(host) for host in HOSTS}
        self._read: dict[str, int] = dict.fromkeys(HOSTS, 0)
        self._state: dict[str, str] = dict.fromkeys(HOSTS, "")
        for host in HOSTS:  # none claims a log that it hasn't read
            self._catch_up(host)
        for _ in range(steps):
            self._step(self.chance.choice(HOSTS))

    def _step(self, host: str) -> None:
        participant = self._hosts[host]
        match self.chance.randrange(10):
            case 0:
                self.bodies.append(participant.claim())
            case 1:
                self.bodies.append(make_probe("nonce", host, participant.counting.place.snapshot))
            case 2 if participant.role is Role.OWNING:
                self.bodies.append(participant.release())
            case 3 | 4 if participant.role is Role.OWNING and participant.in_flight is None:
                self.bodies += participant.append(self._state[host].encode(), 1.0, Kind.SNAPSHOT)
            case 5 | 6 | 7 if participant.role is Role.OWNING and participant.in_flight is None:
                self.bodies += participant.append(self.chance.choice("xyz").encode(), 1.0)
            case _:
                self._catch_up(host)

    def _catch_up(self, host: str) -> None:
        for offset in range(self._read[host], len(self.bodies)):
            for counted in self._hosts[host].read(decode(self.bodies[offset]), offset):
                if isinstance(counted, Record):
                    self._state[host] = follow(self._state[host], counted)
        self._read[host] = len(self.bodies)


def follow(state: str, record: Record) -> str:
    """Return the state after a record."""
    if record.kind is Kind.SNAPSHOT:
        assert record.payload.decode() == state
        return state
    return state + record.payload.decode()


class Reader:
    """A reader of a log's entries from `first` on; the earlier ones were dropped."""

    def __init__(self, log: Log, first: int = 0) -> None:
        self._log = log
        self._first = first
        self.counting = Counting()
        self.state = ""
        self.kept: list[tuple[Place, str]] = []

    def read(self, start: Start, beginning: Beginning) -> None:
        """Read from here to the end."""
        bodies = self._log.bodies
        chunk = self._log.chance.randrange(1, 4)
        offset = len(bodies) - chunk if start == LAST else self._first if start == FIRST else int(start)
        for at in range(max(offset, self._first), len(bodies)):
            entry = decode(bodies[at])
            beginning.note(entry, at)
            for counted in self.counting.read(entry, at):
                if isinstance(counted, Rebuilt):
                    self.state = counted.snapshot.payload.decode()
                elif isinstance(counted, Record):
                    self.state = follow(self.state, counted)
                    if counted.kind is Kind.COMMIT:  # the files note no position after a snapshot alone
                        self.kept.append((self.counting.place, self.state))

    def begin(self) -> bool:
        """Find the beginning, and read from there; return whether there is one."""
        beginning = Beginning()
        start: Start | None = beginning.start
        while start is not None:
            self.counting, self.state = Counting(), ""
            self.read(start, beginning)
            if self.counting.has_base:
                return True
            start = beginning.go_back()
        return False


def read_all(log: Log, first: int = 0) -> Reader:
    """Read a log from the first entry that it has."""
    reader = Reader(log, first)
    reader.read(FIRST, Beginning())
    return reader


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 150), st.floats(0, 1))
def test_a_reader_without_a_state_finds_one_wherever_the_log_begins(seed: int, steps: int, dropped: float) -> None:
    log = Log(seed, steps)
    first = int(dropped * len(log.bodies))
    whole, reader = read_all(log), Reader(log, first)
    assert reader.begin() is read_all(log, first).counting.has_base
    if reader.counting.has_base:
        found = reader.counting.place
        assert reader.state == whole.state
        assert (found.number, found.digest, found.offset) == (
            whole.counting.place.number,
            whole.counting.place.digest,
            whole.counting.place.offset,
        )


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(20, 150))
def test_a_reader_with_a_state_goes_on_from_any_record(seed: int, steps: int) -> None:
    log = Log(seed, steps)
    whole = read_all(log)
    for place, state in whole.kept:
        reader = Reader(log)
        reader.counting.resume(place)
        reader.state = state
        reader.read(place.offset, Beginning())
        assert (reader.counting.place, reader.state) == (whole.counting.place, whole.state)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_a_reader_with_a_state_never_goes_on_in_another_log(seed: int, other_seed: int) -> None:
    log, other = Log(seed, 80), Log(other_seed, 80)
    for place, _ in read_all(log).kept:
        reader = Reader(other)
        reader.counting.resume(place)
        try:
            reader.read(place.offset, Beginning())
        except LogBrokenError:
            continue
        assert place.offset >= len(other.bodies)
