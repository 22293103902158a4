"""The target of registry directories: a scrape answers any of them, and a worker opens the shard or says why not.

A scrape parses, is the same in both formats, and has the figures of a sound file. A worker that opens the shard counts
exactly from there. One that doesn't says in one line which file is damaged.
"""

import json
import random
import re
import shutil
import signal
import struct
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pika import BasicProperties
from pika.spec import Basic
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.parser import text_string_to_metric_families as parse_text

from busmon.bus.frames.delivery import Delivery
from busmon.catalogue.catalogue import Catalogue
from busmon.errors import BusmonError
from busmon.fleet.worker import worker
from busmon.fleet.worker.trigger import Trigger
from busmon.registry.scrape.exposition import Exposition
from busmon.settings import Settings
from tests.fuzz.bodies import ALARM_SECONDS, FaultError, Hang
from tests.unit.registry.registries import NOW, Registry

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
    *("rejected_shard0.json", "dealt.json", "shard0.lock", "shard0.suspect", "shard0.blamed", "places.jsonl"),
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
flips = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
cuts = st.floats(0, 1)
FOLDER = "a directory"
REST_BYTES = 4000
damages = contents | flips | cuts | st.none() | st.just(FOLDER)
steps = st.lists(st.tuples(st.sampled_from(NAMES), damages), max_size=6)
Damage = bytes | tuple[float, int] | float | str | None


def sound_shard(directory: Path) -> None:
    """Make a shard with every kind of file that one has."""
    with Registry(directory) as registry:
        for sample in SAMPLES:
            registry.fold(sample)
            registry.commit()
        registry.shard.write_for_readers()


def sound_file(directory: Path) -> None:
    """Make a file of another writer, which no damage of this shard may hide."""
    sound = MmapedDict(str(directory / "counter_9.db"))  # type: ignore[no-untyped-call]  # not annotated there
    sound.write_value(mmap_key("intact", "intact_total", [], [], "Intact"), 7, 0)  # type: ignore[no-untyped-call]
    sound.close()  # type: ignore[no-untyped-call]


def spoil(path: Path, what: Damage) -> None:
    """Put other content in a file's place, flip bits of a byte in it, cut it off, or take it away."""
    if what is None or what == FOLDER:
        _remove(path)
        if what:
            path.mkdir()
    elif isinstance(what, bytes):
        _remove(path)
        path.write_bytes(what)
    elif path.is_file() and isinstance(what, float):
        content = path.read_bytes()
        path.write_bytes(content[: int(min(len(content), 4000) * what)])
    elif path.is_file() and isinstance(what, tuple) and (found := bytearray(path.read_bytes()[:4000])):
        found[int(len(found) * what[0])] ^= what[1]
        with path.open("r+b") as stream:
            stream.write(found)


def _remove(path: Path) -> None:
    if path.is_dir():
        path.rmdir()
    path.unlink(missing_ok=True)


# -- promises ----------------------------------------------------------------------------------------------------------


def check_scrape(exposition: Exposition) -> None:
    """Scrape in both formats, which have the same lines."""
    text = exposition.text()
    assert text.count(b"\nintact_total 7.0\n") == 1
    assert lines(EXEMPLAR.sub(b"", exposition.openmetrics())) == lines(text)
    exposition.text({"votes_cast"})
    exposition.collect().value("votes_cast_total", type="upvote")


def check_text(exposition: Exposition) -> None:
    """Parse a scrape as a client does, which takes longer than all else."""
    samples = [sample for family in parse_text(exposition.text().decode()) for sample in family.samples]
    assert [sample.value for sample in samples if sample.name == "intact_total"] == [7]


def lines(text: bytes) -> list[bytes]:
    """Return the sample lines of a scrape."""
    return [line for line in text.split(b"\n") if not line.startswith(b"#")]


def check_opening(directory: Path) -> str:
    """Open the shard as a worker does, and count a body; return what became of it."""
    stated = Settings(registry_dir=directory, amqp_url="amqp://guest@127.0.0.1:1/")
    try:
        with patch.object(worker, "IOLoop", Mock):  # nothing is connected, and it has sockets
            opened = worker._open(stated, [0], 0)
    except BusmonError as error:
        said = str(error)
        assert "\n" not in said
        assert str(directory) in said, said
        return "refused by the worker"
    try:
        lane = opened._shards[0]._lane
        lane.deliver([FRESH])
        lane.close(Trigger.DRAIN)
    finally:
        opened.close()
    return "opened by the worker"


def _delivery() -> Delivery:
    sample = {"name": "fresh_total", "type": "counter", "value": 1}
    body = json.dumps({"v": 1, "source": "fresh", "agent": "fresh", "samples": [sample]}).encode()
    method = Basic.Deliver("busmon", 1, redelivered=False, exchange="telemetry", routing_key="fresh.task")
    return Delivery.from_pika(method, BasicProperties(message_id="fresh:1"), body)


FRESH = _delivery()


def take(directory: Path, *, shard: bool, happening: Iterable[tuple[str, Damage]]) -> str:
    """Damage a directory step by step under a scraper's eyes, and have a worker open it; return what became of it."""
    sound_file(directory)
    if shard:
        sound_shard(directory)
    exposition = Exposition(directory, CATALOGUE, lambda: NOW)
    check_scrape(exposition)
    for name, what in happening:
        spoil(directory / name, what)
        check_scrape(exposition)
    check_scrape(Exposition(directory, CATALOGUE, lambda: NOW))
    with patch.object(Catalogue, "load", lambda *_: CATALOGUE):
        outcome = check_opening(directory)
    check_scrape(exposition)
    fresh = Exposition(directory, CATALOGUE, time.time)
    check_text(fresh)
    if outcome.startswith("opened"):
        assert fresh.collect().value("fresh_total") == 1, fresh.skipped
        with patch.object(Catalogue, "load", lambda *_: CATALOGUE):
            assert check_opening(directory).startswith("opened"), "a shard that was opened isn't opened again"
        assert Exposition(directory, CATALOGUE, time.time).collect().value("fresh_total") == 1
    return outcome


class Directories:
    """The target; one object for a slice. Hypothesis makes the damage of the fuzzer's bytes.

    Attributes:
        slowest: the longest processor time of a directory.
    """

    def __init__(self) -> None:
        signal.signal(signal.SIGVTALRM, _raise_hang)
        self.slowest = 0.0
        self._outcomes: Counter[str] = Counter()
        self._directory = Path(tempfile.mkdtemp(prefix="directories-"))

        @settings(database=None, deadline=None, suppress_health_check=[*HealthCheck])
        @given(st.booleans(), steps)
        def try_one(shard: bool, happening: list[tuple[str, Damage]]) -> None:  # noqa: FBT001 - hypothesis passes it
            self._try(shard=shard, happening=happening)

        self._try_bytes: Callable[[bytes], object] = try_one.hypothesis.fuzz_one_input  # type: ignore[attr-defined]

    def take(self, data: bytes) -> bool:
        """Try the directory that these bytes, and random ones that follow from them, describe.

        Returns:
            Whether they describe one.

        Raises:
            FaultError: it breaks a promise.
        """
        rest = random.Random(data).randbytes(REST_BYTES)
        return self._try_bytes(data + rest) is not None

    def describe(self) -> dict[str, int]:
        """Return the directories by what became of them, since the last call."""
        outcomes = dict(self._outcomes)
        self._outcomes.clear()
        return outcomes

    def _try(self, *, shard: bool, happening: list[tuple[str, Damage]]) -> None:
        shutil.rmtree(self._directory)
        self._directory.mkdir()
        signal.setitimer(signal.ITIMER_VIRTUAL, ALARM_SECONDS)
        began = time.process_time()
        try:
            self._outcomes[take(self._directory, shard=shard, happening=happening)] += 1
        except (Exception, Hang) as error:
            raise FaultError(f"{error!r} at shard={shard}, happening={happening!r}") from error
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            self.slowest = max(self.slowest, time.process_time() - began)


def _raise_hang(*_: object) -> None:
    raise Hang


def replay(inputs: Iterable[bytes]) -> None:
    """Try these inputs."""
    directories = Directories()
    for data in inputs:
        directories.take(data)
