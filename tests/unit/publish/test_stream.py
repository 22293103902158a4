"""Lines of JSON become envelopes; a bad line costs nothing but itself."""

import os
import threading
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from busmon.catalogue import Catalogue
from busmon.publish.batch import MAX_BYTES, MAX_NUMBERS, Origin, Sealed
from busmon.publish.samples import SampleChecks
from busmon.publish.stream import Stream

CATALOGUE = Catalogue.load()


class Input:
    """A pipe, and a stream that reads it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.rejected: list[int] = []
        checks = SampleChecks(CATALOGUE)
        self.stream = Stream(Origin("cli-1", "cli"), checks, lambda number, _: self.rejected.append(number))

    def write(self, *lines: bytes) -> None:
        os.write(self.writing, b"".join(line + b"\n" for line in lines))

    def envelopes(self, wait_seconds: float = 60.0) -> Iterator[Sealed | None]:
        return self.stream.envelopes(self.reading, wait_seconds)

    def everything(self, text: bytes) -> list[Sealed]:
        """Read a whole input."""

        def write() -> None:
            with os.fdopen(self.writing, "wb") as stream:
                stream.write(text)

        writer = threading.Thread(target=write)
        writer.start()
        envelopes = [sealed for sealed in self.envelopes() if sealed]
        writer.join()
        return envelopes


@pytest.fixture
def given() -> Iterator[Input]:
    given = Input()
    yield given
    os.close(given.reading)


def a_line(value: Any = 1, queue: str = "q") -> bytes:
    return orjson.dumps({"name": "queue_size", "labels": {"queue": queue}, "value": value})


def samples(sealed: Sealed) -> list[Any]:
    found: list[Any] = orjson.loads(sealed.body)["samples"]
    return found


def test_good_lines_are_published_and_bad_ones_named(given: Input) -> None:
    lines = [a_line(1), b"{", b"", a_line("x"), b"7", b'{"name": "unknown", "value": 1}', b"\xff", a_line(2)]
    (sealed,) = given.everything(b"\n".join(lines))
    assert [sample["value"] for sample in samples(sealed)] == [1, 2]
    assert given.rejected == [2, 4, 5, 6, 7]


def test_lines_may_be_a_windows_editors_and_samples_a_go_structs(given: Input) -> None:
    zero = {"type": "", "op": "", "ts": 0, "values": [], "buckets": None, "sum": 0}
    go = orjson.dumps({"name": "queue_size", "labels": {"queue": 7}, "value": 3, **zero})
    (sealed,) = given.everything(b"\xef\xbb\xbf" + b"\r\n".join([a_line(1), a_line(2), go, b"\0"]))
    assert [sample["value"] for sample in samples(sealed)] == [1, 2, 3]
    assert given.rejected == []


def test_envelopes_are_bounded_in_number_and_size(given: Input) -> None:
    long = [a_line(number, queue="q" * 1000) for number in range(600)]
    short = [a_line(number) for number in range(600, 3000)]
    envelopes = given.everything(b"\n".join([*long, *short]))
    assert all(len(sealed.body) <= MAX_BYTES + 1000 for sealed in envelopes)
    assert all(sealed.samples <= MAX_NUMBERS for sealed in envelopes)
    assert [sample["value"] for sealed in envelopes for sample in samples(sealed)] == list(range(3000))


def test_an_endless_line_is_one_bad_line_in_bounded_memory(given: Input) -> None:
    envelopes = given.everything(a_line(1) + b"\n" + b"[" * (20 * MAX_BYTES) + b"\n" + a_line(2) + b"\n")
    assert [sample["value"] for sealed in envelopes for sample in samples(sealed)] == [1, 2]
    assert given.rejected == [2]


def test_a_slow_input_is_published_when_it_pauses(given: Input) -> None:
    given.write(a_line(1))
    envelopes = given.envelopes(wait_seconds=0.01)
    first = next(envelopes)
    assert first
    assert len(samples(first)) == 1
    assert next(envelopes) is None
    given.write(a_line(2))
    assert any(next(envelopes) for _ in range(1000))
    os.close(given.writing)
    assert list(envelopes) in ([], [None])
