"""The last rejected samples of a shard: what is kept of them, for how long, and within which bounds."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from busmon.registry.fold.rejection_log import MAX_PAIRS
from busmon.registry.storage.rejected_samples import RejectedReader, RejectedSample, newest_of_each, path_of
from busmon.wire.arrival import Arrival
from busmon.wire.envelope import Envelope
from busmon.wire.formats import DECODERS
from tests.unit.registry.registries import NOW, Registry

QUEUE = {"name": "queue_size", "labels": {"queue": "q"}}


def kept(directory: Path) -> list[RejectedSample]:
    """Newest first."""
    found = RejectedReader(directory).read()
    assert found.skipped == {}
    return found.samples


def lines(format_: str, body: bytes) -> Envelope:
    return DECODERS[format_](Arrival(body, None, None, 1 << 20, "web"))


def test_a_sample_is_kept_with_its_name_labels_value_and_why(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"}, agent="planner")
        registry.commit()
    assert kept(tmp_path) == [
        RejectedSample(
            NOW, 0, "invalid_value", "planner", "queue_size", {"queue": "q"}, "x", "'value' is a number, got a string"
        )
    ]


@pytest.mark.parametrize(
    ("sample", "stated", "why"),
    [
        (
            {"name": "queue_size", "labels": {"queues": "q"}, "value": 1},
            ("queue_size", {"queues": "q"}, "1"),
            "expected the labels queue; got the labels queues",
        ),
        (QUEUE | {"value": 1, "type": "counter"}, ("queue_size", {"queue": "q"}, "1"), "the metric is a gauge"),
        (QUEUE | {"value": 1, "op": "add"}, ("queue_size", {"queue": "q"}, "1"), "the gauge takes the op 'set'"),
        ({"name": "nodes", "value": 3}, ("nodes", {}, "3"), "no catalogue names the metric"),
        ({"name": "n", "values": [1, 2, 3, 4, 5, 6]}, ("n", {}, "1, 2, 3, 4, 5, …"), "no catalogue names"),
        ({"name": "n", "buckets": {"1": 2, "+Inf": 0}, "sum": 1}, ("n", {}, "1: 2, +Inf: 0"), "no catalogue names"),
        (7, ("", {}, ""), "a sample is an object"),
        ({"name": ["x"], "value": {"a": [1]}}, ("x", {}, "a: …"), "'value' is a number, got an object"),
        (QUEUE | {"value": "42"}, ("queue_size", {"queue": "q"}, "42"), "'value' is a number, got a string"),
        (QUEUE | {"value": True}, ("queue_size", {"queue": "q"}, "True"), "'value' is a number, got a boolean"),
        ({"name": "busmon_x_total", "type": "counter", "value": 1}, ("busmon_x_total", {}, "1"), "busmon"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    sample: Any, stated: tuple[str, dict[str, str], str], why: str, tmp_path: Path
) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(sample)
        registry.commit()
    (found,) = kept(tmp_path)
    assert (found.name, found.labels, found.value) == stated
    assert why in found.why


def test_a_row_is_kept_with_the_labels_of_its_table(tmp_path: Path) -> None:
    table = {"name": "votes_cast_total", "labels": ["type"], "rows": [["upvote", 1], ["downvote", -1], 7]}
    with Registry(tmp_path) as registry:
        registry.fold(tables=[table, {"name": "nodes", "labels": [], "rows": [[1]] * 9}])
        registry.commit()
        assert registry.rejected() == {"negative_increment": 1, "invalid_row": 1, "unknown_metric": 9}
    by_reason = {sample.reason: sample for sample in kept(tmp_path)}
    assert by_reason["negative_increment"].labels == {"type": "downvote"}
    assert by_reason["negative_increment"].value == "-1"
    assert by_reason["invalid_row"].value == "7"
    assert by_reason["unknown_metric"].name == "nodes"


@pytest.mark.parametrize(
    ("format_", "body", "reason", "stated"),
    [
        ("statsd", b"a:1|c\nb:nan|g|#env:prod", "non_finite", ("b", {"env": "prod"}, "nan")),
        ("statsd", b"a:1|c\nb:1:x|d", "invalid_value", ("b", {}, "1:x")),
        ("statsd", b"a:1|c\n_sc|db|2", "statsd_service_check", ("", {}, "")),
        ("statsd", b"a:1|c\nb:-1.5|c|#env:prod", "negative_increment", ("b", {"env": "prod"}, "-1.5")),
        ("influx", b"a b=1\nm,host=h f=oops", "invalid_value", ("m.f", {"host": "h"}, "oops")),
        ("influx", b'a b=1\nm msg="secret\nlog', "invalid_influx", ("m", {}, "")),
    ],
)
def test_lines_are_kept_with_what_is_known_of_them_and_no_more(
    format_: str, body: bytes, reason: str, stated: tuple[str, dict[str, str], str], tmp_path: Path
) -> None:
    with Registry(tmp_path) as registry:
        registry.shard.fold.envelope(lines(format_, body), NOW)
        registry.commit()
    (found,) = kept(tmp_path)
    assert (found.reason, found.agent) == (reason, "web")
    assert (found.name, found.labels, found.value) == stated
    assert "secret" not in found.why


def test_the_last_of_each_reason_and_agent_are_kept(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        for number in range(20):
            registry.fold(QUEUE | {"value": f"{number}"}, QUEUE | {"value": f"{number}b"}, now=NOW + number)
            registry.fold(QUEUE | {"ts": -1, "value": number}, agent="writer", now=NOW + number)
            registry.commit(NOW + number)
    samples = kept(tmp_path)
    values = [sample.value for sample in samples if sample.reason == "invalid_value"]
    assert sorted(values) == ["17b", "18", "18b", "19", "19b"]
    assert [sample.value for sample in samples if sample.agent == "writer"] == ["19", "18", "17", "16", "15"]
    assert {(each.reason, each.at) for each in newest_of_each(samples)} == {
        ("invalid_value", NOW + 19),
        ("invalid_timestamp", NOW + 19),
    }


def test_samples_of_a_batch_that_is_rolled_back_are_kept_once(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"})
        registry.shard.rollback()
        assert registry.shard.fold.rejected.fresh() == []
        registry.fold(QUEUE | {"value": "x"})
        registry.commit()
        assert [sample.value for sample in registry.shard.fold.rejected.fresh()] == ["x"]
        assert registry.shard.fold.rejected.fresh() == []
    assert len(kept(tmp_path)) == 1


def test_samples_survive_a_restart_and_a_removal(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"}, QUEUE | {"value": 1})
        registry.commit()
        registry.drop("queue_size")
        registry.fold(QUEUE | {"ts": -1, "value": 2})
        registry.commit()
    with Registry(tmp_path) as registry:
        registry.fold({"name": "nodes", "value": 3}, now=NOW + 1)
        registry.commit()
        registry.shard.write_for_readers()
        assert [sample.value for sample in kept(tmp_path)] == ["3", "x", "2"]


def test_each_shard_has_a_file_that_is_written_only_when_there_is_something_new(tmp_path: Path) -> None:
    with Registry(tmp_path) as first, Registry(tmp_path, 1) as second:
        first.shard.write_for_readers()
        assert not path_of(tmp_path, 0).exists()
        for number, registry in enumerate((first, second)):
            registry.fold(QUEUE | {"value": "x"}, now=NOW + number)
            registry.commit()
            registry.shard.write_for_readers()
        written = path_of(tmp_path, 0).stat().st_mtime_ns
        first.shard.write_for_readers()
        assert path_of(tmp_path, 0).stat().st_mtime_ns == written
    assert [sample.shard for sample in kept(tmp_path)] == [1, 0]
    assert path_of(tmp_path, 0).stat().st_mode & 0o777 == 0o600


def test_what_publishers_write_is_bounded(tmp_path: Path) -> None:
    long = "é" * 1500
    with Registry(tmp_path) as registry:
        for number in range(300):
            sample = {"name": long, "labels": {f"{long}{each}": long for each in range(30)}, "value": long}
            registry.fold(*[sample] * (2 if number == 299 else 1), agent=f"{number:x<200}")
            if number % 100 == 0:
                registry.commit()
        registry.fold({"name": "n", "value": [[[long]]] * 9}, {"name": "n", "value": {long: {long: long}}})
        registry.commit()
    samples = kept(tmp_path)
    assert len({(sample.reason, sample.agent) for sample in samples}) == MAX_PAIRS
    assert len([sample for sample in samples if sample.agent.startswith("299")]) == 2
    assert path_of(tmp_path, 0).stat().st_size < 1 << 20
    assert all(len(sample.name) <= 120 and len(sample.value) <= 120 for sample in samples)
    assert all(len(sample.labels) <= 8 for sample in samples)


def test_a_sample_of_what_no_text_can_hold_is_kept_all_the_same(tmp_path: Path) -> None:
    deep: Any = 1
    for _ in range(1000):
        deep = [deep] * 2
    sample = {"name": "a\ud83d", "labels": {"x\udcff": 1.5}, "values": ["y\udcff", deep]}
    with Registry(tmp_path) as registry:
        registry.shard.fold.envelope(Envelope("s", "a", None, [sample], []), NOW)
        registry.commit()
    (found,) = kept(tmp_path)
    assert (found.name, found.labels, found.value) == ("a?", {"x?": "1.5"}, "y?, …")


DAMAGE = [b"", b"[", b"{}", b"[1]", b'[{"at": 1}]', b"\xff", b"[" * 100_000, orjson.dumps([{"at": "x"}])]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_file_that_is_damaged_is_named_and_replaced(content: bytes, tmp_path: Path) -> None:
    path_of(tmp_path, 0).write_bytes(content)
    path_of(tmp_path, 1).write_bytes(b"[]")
    found = RejectedReader(tmp_path).read()
    assert found.samples == []
    assert {*found.skipped} <= {"rejected_shard0.json"}
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"}, QUEUE | {"value": 1})
        registry.commit()
        assert registry.text() == 'queue_size{queue="q"} 1.0\n'
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_stands_in_the_place_of_the_file_stops_nobody(make: Any, tmp_path: Path) -> None:
    make(path_of(tmp_path, 0))
    assert RejectedReader(tmp_path).read().samples == []
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"}, QUEUE | {"value": 1})
        registry.commit()
        assert registry.text() == 'queue_size{queue="q"} 1.0\n'
        assert registry.rejected() == {"invalid_value": 1}


def test_a_reader_reads_a_file_again_only_when_another_took_its_place(tmp_path: Path) -> None:
    reader = RejectedReader(tmp_path)
    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"})
        registry.commit()
        registry.shard.write_for_readers()
        first = reader.read().samples
        assert reader.read().samples[0] is first[0]
        registry.fold(QUEUE | {"value": "y"}, now=NOW + 1)
        registry.commit()
        registry.shard.write_for_readers()
        assert [sample.value for sample in reader.read().samples] == ["y", "x"]
    path_of(tmp_path, 0).unlink()
    assert reader.read().samples == []


def test_a_full_disk_keeps_no_count_from_being_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with Registry(tmp_path) as registry:
        registry.fold(QUEUE | {"value": "x"})
        registry.commit()
        with monkeypatch.context() as patched:
            patched.setattr("busmon.registry.storage.rejected_samples.orjson.dumps", full)
            with pytest.raises(OSError, match="No space"):
                registry.shard.write_for_readers()
        assert registry.rejected() == {"invalid_value": 1}
    assert len(kept(tmp_path)) == 1
