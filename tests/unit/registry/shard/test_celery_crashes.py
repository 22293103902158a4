"""A shard with Celery's events whose owner is killed at any line: no event is lost, and none counts twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from busmon.registry.scrape.exposition import Exposition
from busmon.registry.storage import journal
from busmon.wire.arrival import Arrival
from busmon.wire.celery import decode
from tests.unit.registry.registries import NOW, Registry, counted

from .test_crashes import finish, told, whole_life

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from .test_crashes import Operation

SENT = {"type": "task-sent", "uuid": "u", "name": "pay", "queue": "q"}
HEARTBEAT = {"type": "worker-heartbeat", "active": 1}
FAILED = {"type": "task-failed", "uuid": "u", "exception": "KeyError('k')"}


def events(second: float, *stated: dict[str, Any], silent_since: float | None = None) -> Operation:
    """Fold events and what time shows of the workers, and commit."""

    def operate(registry: Registry) -> None:
        at = NOW + second
        said = [{"hostname": "celery@h", "timestamp": at} | event for event in stated]
        if said:
            registry.shard.fold.envelope(decode(Arrival(orjson.dumps(said), None, None, 9999, is_celerys=True)), at)
        registry.shard.beat_celery(at, silent_since and NOW + silent_since)
        registry.commit(at)

    return operate


OPERATIONS = [
    events(0, SENT, HEARTBEAT),
    events(1, SENT | {"uuid": "w", "name": "ship"}, SENT | {"timestamp": NOW}),
    events(2, FAILED),
    events(3, silent_since=2.5),
]


def test_a_kill_at_any_line_loses_no_event_and_counts_none_twice(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "CAPACITY_BYTES", 700)
    with Registry(tmp_path_factory.mktemp("whole")) as registry:
        after = [told(registry)]
        for operate in OPERATIONS:
            operate(registry)
            after.append(told(registry))
    assert [len(stage.celery["seen"]) for stage in after] == [0, 2, 3, 4, 4]
    life = whole_life(tmp_path_factory.mktemp("life"), fsync=False, operations=OPERATIONS)
    assert {state.done for state in life} == {*range(len(OPERATIONS) + 1)}
    for state in life:
        before_or_after = after[state.done : state.done + 2]
        state.lay_out(tmp_path)
        assert counted(Exposition(tmp_path).text()) in [counted(stage.text) for stage in before_or_after], state.line
        with Registry(tmp_path) as registry:
            assert told(registry)[1:] in [stage[1:] for stage in before_or_after], state.line
        assert finish(tmp_path, state.done, OPERATIONS) == after[-1], state.line
