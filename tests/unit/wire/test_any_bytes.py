"""Whatever bytes a decoder is given, it makes an envelope of them or refuses them, within its bounds."""

import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from busmon.errors import EnvelopeError
from busmon.registry.scrape.exposition import Exposition
from busmon.wire import otlp
from busmon.wire.arrival import MAX_POINTS, Arrival
from busmon.wire.envelope import Envelope
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import NOW, Registry, fresh_directory

from .producers import SEEDS

MAX_BYTES = 1 << 20
FORMATS = {"otlp json": otlp.decode, **DECODERS}


@cache
def seed(name: str) -> bytes:
    return SEEDS[name]()


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    """A real body with some of its bytes cut out, put twice, or replaced by others."""
    body = seed(name)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 40)))
        body = body[:start] + draw(st.one_of(st.binary(max_size=8), st.just(2 * body[start:end]))) + body[end:]
    return body


def envelope_or_refusal(decoder: Callable[[Arrival], Envelope], body: bytes) -> Envelope | None:
    try:
        return decoder(Arrival(body, None, None, MAX_BYTES))
    except EnvelopeError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert len(refusal) < 300
    return None


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    """One for all examples: what they leave behind is part of what is tried."""
    with fresh_directory() as directory, Registry(directory) as opened:
        yield opened


@pytest.mark.parametrize("name", FORMATS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_bytes_are_an_envelope_or_refused_and_any_envelope_is_folded(
    name: str, data: st.DataObject, registry: Registry
) -> None:
    body = data.draw(st.one_of(st.binary(max_size=200), mutated(name)))
    envelope = envelope_or_refusal(FORMATS[name], body)
    if envelope is not None:
        registry.shard.fold.envelope(envelope, NOW)
        registry.commit()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("influx", b"m counter=99999999999999999999i"),
        ("prometheus", b"# TYPE a counter\na_total 1\na_created NaN\nb 1 NaN\nc 1 -5\nd NaN\n"),
        ("statsd", b"a:1e300|c\na:1e300|c|@0.0001\nb:1|c|T1e999\n"),
    ],
)
def test_numbers_that_no_clock_and_no_counter_shows_leave_the_files_whole(
    name: str, body: bytes, tmp_path: Path
) -> None:
    for _ in range(2):
        with Registry(tmp_path) as opened:
            opened.shard.fold.envelope(FORMATS[name](Arrival(body, None, None, MAX_BYTES)), NOW)
            opened.commit()
            assert not Exposition(tmp_path).skipped


def dense(name: str, size: int) -> bytes:
    """As many values as fit."""
    statsd = dict.fromkeys(["statsd", "dogstatsd", "etsy_statsd"], b"a:1|c\n")
    lines = {**statsd, "influx": b"a b=1\n", "cloudevents": b"[", "otlp": b"\x0a\x00"}
    if name == "otlp json":
        return b'{"resourceMetrics":[' + b"{}," * (size // 3 - 10) + b"{}]}"
    if name == "celery":
        return b"[" + b'{"type":"task-sent","hostname":"h","uuid":"u"},' * (size // 47 - 1) + b"0]"
    if name == "prometheus":
        return b"".join(b"a%d 1\n" % number for number in range(size // 9))
    return lines[name] * (size // len(lines[name]))


@pytest.mark.parametrize("name", FORMATS)
def test_a_dense_body_takes_bounded_memory(name: str) -> None:
    body = dense(name, 1 << 15)
    tracemalloc.start()
    try:
        envelope_or_refusal(FORMATS[name], body)
        assert tracemalloc.get_traced_memory()[1] < 500 * len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", FORMATS)
def test_the_largest_body_with_the_most_values_is_refused(name: str) -> None:
    assert envelope_or_refusal(FORMATS[name], dense(name, MAX_BYTES)) is None


@pytest.mark.parametrize(
    "body", [b"a:1|ms|@0.0001\n" * 100, b"a:" + b":".join([b"1"] * (MAX_POINTS + 1)) + b"|ms"], ids=["rate", "values"]
)
def test_a_short_line_cannot_stand_for_any_number_of_observations(body: bytes) -> None:
    with pytest.raises(EnvelopeError, match="too_many_samples"):
        DECODERS["statsd"](Arrival(body, None, None, MAX_BYTES))
