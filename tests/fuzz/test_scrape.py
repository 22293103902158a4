"""Whatever stands in a registry directory, a scrape answers, parses, and has what a sound file beside it says."""

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families as parse_text

from busmon.catalogue.catalogue import Catalogue
from busmon.registry.scrape.exposition import Exposition
from tests.unit.registry.registries import NOW, Registry, fresh_directory

CATALOGUE = Catalogue.load()
SAMPLES: list[dict[str, Any]] = [
    {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 3, "trace_id": "4bf92f"},
    {"name": "task_duration_seconds", "labels": {"agent": "a"}, "value": 0.3, "trace_id": "4bf92f"},
    {"name": "request_size_bytes", "values": [512, 3]},
    {"name": "queue_size", "labels": {"queue": "q"}, "value": 42},
]
NAMES = [
    *(f"{column}_shard0.db" for column in ("counter", "histogram", "summary", "gauge_mostrecent", "gauge_sum", "odd")),
    *("counter_7.db", "gauge_all_7.db", "gauge_livemax_7.db", "summary_7.db", ".db", "_.db", "shard0.db"),
    *("sketch_shard0.bins", "exemplars_shard0.json", "families.jsonl", "shard0.journal", "7.journal"),
]

EXEMPLAR = re.compile(rb" # \{.*")

jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
words = st.sampled_from(
    ["a", "a_total", "a_bucket", "a_sum", "a_count", "votes_cast", "request_size_bytes", "le", "", "1", "+Inf"]
)
labels = st.dictionaries(words | st.text(max_size=3), words | st.text(max_size=3) | jsons, max_size=3)
keys = st.tuples(words, words, labels, words) | st.tuples(
    words, labels, st.integers(0, 5), st.sampled_from(["p1", "n9", "z", "p99999999"])
)
entries = st.lists(st.tuples(keys | jsons, st.floats(), st.sampled_from([0.0, NOW]) | st.floats()), max_size=6)
slots = st.lists(st.integers(-2, 60) | jsons, max_size=3)
records = st.fixed_dictionaries(
    {
        "at": jsons,
        "values": st.dictionaries(
            st.sampled_from(["counter", "sketch", "odd"]), st.tuples(slots, slots, slots) | jsons
        ),
    }
)


def value_file(content: list[tuple[Any, float, float]], used: int | None) -> bytes:
    """A value file of these entries, which says of itself that it is as long as it is, or something else."""
    parts = []
    for key, value, at in content:
        encoded = json.dumps(key).encode()
        padding = 8 - (len(encoded) + 4) % 8
        parts.append(struct.pack(f"i{len(encoded)}s{padding}xdd", len(encoded), encoded, value, at))
    body = b"".join(parts)
    return struct.pack("i4x", 8 + len(body) if used is None else used) + body + bytes(64)


def journal(payloads: list[Any], applied: int) -> bytes:
    """A journal of these records, sound but for what they say; `applied` is the record up to which they are applied."""
    body = b""
    ends = [24]
    for payload in (json.dumps(payload).encode() for payload in payloads):
        body += struct.pack("<II", len(payload), zlib.crc32(payload)) + payload
        ends.append(24 + len(body))
    return struct.pack("<8sQQ", b"busmonJ1", ends[-1], ends[min(applied, len(payloads))]) + body + bytes(64)


contents = st.one_of(
    st.binary(max_size=200),
    st.builds(value_file, entries, st.none() | st.integers(-9, 400)),
    st.builds(journal, st.lists(records | jsons, min_size=1, max_size=4), st.integers(1, 4)),
    st.dictionaries(words, jsons).map(json.dumps).map(str.encode),
)
damage = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
steps = st.lists(st.tuples(st.sampled_from(NAMES), contents | damage | st.none()), max_size=6)


def sound_shard(directory: Path) -> None:
    """A shard with every kind of file that one has."""
    with Registry(directory) as registry:
        for sample in SAMPLES:
            registry.fold(sample)
            registry.commit()
        registry.shard.write_for_readers()


def spoil(path: Path, what: bytes | tuple[float, int] | None) -> None:
    """Put other content in a file's place, or flip bits of a byte in it, or take it away."""
    if what is None:
        path.unlink(missing_ok=True)
    elif isinstance(what, bytes):
        path.write_bytes(what)
    elif path.exists() and (content := bytearray(path.read_bytes()[:4000])):
        content[int(len(content) * what[0])] ^= what[1]
        with path.open("r+b") as stream:
            stream.write(content)


def check(exposition: Exposition) -> None:
    """Scrape in both formats, which have the same lines."""
    text = exposition.text()
    samples = [sample for family in parse_text(text.decode()) for sample in family.samples]
    assert [sample.value for sample in samples if sample.name == "intact_total"] == [7]
    assert lines(EXEMPLAR.sub(b"", exposition.openmetrics())) == lines(text)
    exposition.text({"votes_cast"})
    exposition.collect().value("votes_cast_total", type="upvote")


def lines(text: bytes) -> list[bytes]:
    return [line for line in text.split(b"\n") if not line.startswith(b"#")]


@given(st.booleans(), steps)
def test_nothing_breaks_a_scrape(shard: bool, happening: list[tuple[str, Any]]) -> None:  # noqa: FBT001 - hypothesis passes it
    with fresh_directory() as directory:
        sound = MmapedDict(str(directory / "counter_9.db"))  # type: ignore[no-untyped-call]  # not annotated there
        sound.write_value(mmap_key("intact", "intact_total", [], [], "Intact"), 7, 0)  # type: ignore[no-untyped-call]
        sound.close()  # type: ignore[no-untyped-call]
        if shard:
            sound_shard(directory)
        exposition = Exposition(directory, CATALOGUE, lambda: NOW)
        check(exposition)
        for name, what in happening:
            spoil(directory / name, what)
            check(exposition)
        check(Exposition(directory, CATALOGUE, lambda: NOW))
