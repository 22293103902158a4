"""Samples as encoders of typed languages write them: zero values count as absent, label values as their text."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from busmon.wire.json_v1 import decode
from tests.unit.registry.registries import MAX_BYTES, NOW, Registry, parsed, series

GO: dict[str, Any] = {
    "type": "",
    "op": "",
    "labels": None,
    "value": 0,
    "values": None,
    "buckets": None,
    "sum": 0,
    "ts": 0,
    "trace_id": "",
}
"""A sample of a Go struct in which only the name is set."""

BUCKETS = {"0.1": 1, "0.5": 0, "1": 2, "2": 0, "5": 0, "10": 0, "+Inf": 0}


def scraped(directory: Path, samples: list[Any], tables: list[Any] | None = None) -> dict[Any, float]:
    """Scrape these samples, none of which is rejected."""
    body = orjson.dumps({"v": 1, "source": "s", "agent": "", "ts": 0, "samples": samples, "tables": tables})
    with Registry(directory) as registry:
        registry.shard.fold.envelope(decode(body, None, None, MAX_BYTES), NOW)
        registry.commit()
        assert registry.rejected() == {}
        return parsed(registry.text(""))


def test_a_go_struct_counts_what_is_set_in_it(tmp_path: Path) -> None:
    waits = {"labels": {"agent": "a"}, "name": "task_duration_seconds"}
    found = scraped(
        tmp_path,
        [
            {**GO, "name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 2},
            {**GO, "name": "queue_size", "labels": {"queue": "q"}, "value": 0, "values": [], "buckets": {}},
            {**GO, **waits, "values": [0.3, 0.7]},
            {**GO, **waits, "values": [], "buckets": BUCKETS, "sum": 1.5},
            {**GO, **waits, "value": 0},
            {**GO, "name": "request_size_bytes", "values": [], "buckets": {}, "value": None},
            {**GO, "name": "user_online_count", "labels": [], "value": 3},
        ],
        [{"name": "votes_cast_total", "type": "", "op": "", "ts": 0, "labels": ["type"], "rows": [["upvote", 5]]}],
    )
    assert found[series("votes_cast_total", type="upvote")] == 7
    assert found[series("queue_size", queue="q")] == 0
    assert found[series("task_duration_seconds_count", agent="a")] == 2 + 3 + 1
    assert found[series("task_duration_seconds_sum", agent="a")] == 1.0 + 1.5
    assert found[series("task_duration_seconds_bucket", agent="a", le="0.1")] == 1 + 1
    assert series("request_size_bytes_count") not in found or found[series("request_size_bytes_count")] == 0
    assert found[series("user_online_count")] == 3


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (200, "200"),
        (200.0, "200"),
        (-7, "-7"),
        (0, "0"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (0.1, "0.1"),
        (1e-7, "1e-07"),
        (1e17, "100000000000000000"),
        (1e22, "1e+22"),
        (2**63, "9223372036854775808"),
        (True, "true"),
        (False, "false"),
        ("", ""),
        ("200.0", "200.0"),
    ],
)
def test_a_label_value_counts_as_its_text_in_a_sample_and_in_a_table(value: Any, text: str, tmp_path: Path) -> None:
    sample = {"name": "votes_cast_total", "labels": {"type": value}, "value": 1}
    adopted = {"name": "nodes_total", "type": "counter", "labels": {"zone": value}, "value": 1}
    table = {"name": "votes_cast_total", "labels": ["type"], "rows": [[text, 1], [value, 1], [value, 1]]}
    found = scraped(tmp_path, [sample, adopted, sample], [table])
    assert found[series("votes_cast_total", type=text)] == 5
    assert found[series("nodes_total", zone=text)] == 1


def test_numbers_and_booleans_that_python_takes_for_equal_are_series_of_their_own(tmp_path: Path) -> None:
    values = [1, True, "1", 0, False, 1.0]
    table = {"name": "votes_cast_total", "labels": ["type"], "rows": [[value, 1] for value in values]}
    found = scraped(tmp_path, [], [table])
    assert {value: found[series("votes_cast_total", type=value)] for value in ("1", "true", "0", "false")} == {
        "1": 3,
        "true": 1,
        "0": 1,
        "false": 1,
    }


@pytest.mark.parametrize("ts", ["2023-11-14T22:13:19Z", "2023-11-14t22:13:19.000z", "2023-11-15 00:13:19+02:00"])
def test_a_time_in_text_decides_between_readings(ts: str, tmp_path: Path) -> None:
    gauge = {"name": "queue_size", "labels": {"queue": "q"}}
    early, late = {**gauge, "value": 1, "ts": 1699999998.5}, {**gauge, "value": 2, "ts": 1700000000.0 - 0.5}
    timed = {**gauge, "value": 3, "ts": ts}
    assert scraped(tmp_path, [timed, early])[series("queue_size", queue="q")] == 3
    table = {"name": "queue_size", "labels": ["queue"], "ts": ts, "rows": [["q", 4]]}
    assert scraped(tmp_path, [late], [table])[series("queue_size", queue="q")] == 2


def test_an_envelopes_time_in_text_is_its_samples() -> None:
    body = {"v": 1, "source": "s", "ts": "2025-11-22T09:00:00Z", "samples": []}
    assert decode(orjson.dumps(body), None, None, MAX_BYTES).ts == 1763802000.0
