"""A removal of series frees at once what it replaces: a worker seldom looks for objects that hold each other."""

import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from busmon.registry.operator import removal
from tests.unit.registry.registries import Registry

SAMPLES = [
    {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1},
    {"name": "task_duration_seconds", "labels": {"agent": "a"}, "value": 1},
    {"name": "queue_size", "labels": {"queue": "q"}, "value": 1},
]


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("uncollected")
def test_a_removal_leaves_nothing_of_what_it_replaces(tmp_path: Path) -> None:
    with Registry(tmp_path) as registry:
        shard = registry.shard
        for number in range(1, 4):
            shard.fold.texts.read([orjson.dumps({"v": 1, "source": "s", "agent": "a", "ts": 1.5, "samples": SAMPLES})])
            registry.deliver(f"s-1:{number}", *SAMPLES)
            registry.commit()
        replaced = [
            weakref.ref(each) for each in (shard.fold, shard.fold.own, shard.fold.texts, shard.ledger, shard._files)
        ]
        assert removal.drop(shard, "votes_cast_total", {}, time.time())
        assert shard.fold is not replaced[0]()
        assert [each() for each in replaced] == [None] * len(replaced)
