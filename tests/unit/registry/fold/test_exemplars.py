"""Exemplars: which sample leaves one, where it is told, and that it never costs a count."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from busmon.registry.fold import exemplars
from tests.unit.registry.registries import NOW, Registry

VOTE = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 2, "trace_id": "t-1"}
TASK = {"name": "task_duration_seconds", "labels": {"agent": "planner"}, "trace_id": "t-2"}


def told(registry: Registry) -> Any:
    registry.shard.write_for_readers()
    return orjson.loads((registry.directory / "exemplars_shard0.json").read_bytes())


def test_the_last_one_of_each_counter_and_each_bucket_is_told(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE | {"trace_id": "earlier"}, VOTE | {"ts": NOW - 1})
        registry.fold(TASK | {"value": 0.3}, TASK | {"values": [9.0, 0.7], "trace_id": "t-3"}, TASK | {"value": 1e9})
        assert told(registry) == {
            "votes_cast": [[{"type": "upvote"}, "", {"trace_id": "t-1"}, 2, NOW - 1]],
            "task_duration_seconds": [
                [{"agent": "planner"}, "0.5", {"trace_id": "t-2"}, 0.3, NOW],
                [{"agent": "planner"}, "1.0", {"trace_id": "t-3"}, 0.7, NOW],
                [{"agent": "planner"}, "+Inf", {"trace_id": "t-2"}, 1e9, NOW],
            ],
        }


def test_what_has_no_exemplar_leaves_none(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(
            {"name": "queue_size", "labels": {"queue": "q"}, "value": 1, "trace_id": "t"},
            {"name": "request_size_bytes", "value": 1, "trace_id": "t"},
            {"name": "waits", "type": "histogram", "buckets": {"1": 2, "+Inf": 1}, "sum": 7.5, "trace_id": "t"},
            TASK | {"values": []},
            VOTE | {"trace_id": None},
        )
        registry.shard.write_for_readers()
        assert not (tmp_path / "exemplars_shard0.json").exists()
        registry.commit()
        assert registry.rejected() == {}


@pytest.mark.parametrize("trace_id", [7, "t" * 121, ["t"], True])
def test_a_trace_that_cannot_be_told_rejects_its_sample_alone(trace_id: object, tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        registry.fold(VOTE | {"trace_id": trace_id}, VOTE | {"trace_id": "t" * 120})
        registry.commit()
        assert registry.rejected() == {"invalid_trace_id": 1}
        assert registry.text('votes_cast_total{type="upvote"') == 'votes_cast_total{type="upvote"} 2.0\n'


def test_they_are_written_when_there_are_new_ones_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exemplars, "MAX_EXEMPLARS", 2)
    with Registry(tmp_path) as registry:
        for kind in ("a", "b", "a", "c"):
            registry.fold(VOTE | {"labels": {"type": kind}})
        assert [row[0]["type"] for row in told(registry)["votes_cast"]] == ["a", "c"]
        (tmp_path / "exemplars_shard0.json").unlink()
        registry.fold(VOTE | {"trace_id": None})
        registry.shard.write_for_readers()
        assert not (tmp_path / "exemplars_shard0.json").exists()
