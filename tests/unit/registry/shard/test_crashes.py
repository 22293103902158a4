"""A shard whose owner is killed at any line: nothing lost, nothing counted twice, no scrape between two batches."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from busmon.registry.ledger.source_record import Verdict
from busmon.registry.scrape.exposition import Exposition
from busmon.registry.series.sketch import WINDOW
from busmon.registry.storage import journal, values
from busmon.wire.envelope import Envelope, Observed, Part, Point
from tests.unit.registry.crashes import State, states
from tests.unit.registry.registries import NOW, Registry, counted, fresh_directory

VOTES = {"name": "votes_cast_total", "labels": {"type": "upvote"}, "value": 1}
AGENTS = {"name": "active_agents", "labels": {"type": "planner"}, "value": 2}
QUEUE = {"name": "queue_size", "labels": {"queue": "q"}, "value": 42}
WAITS = {"name": "waits", "type": "histogram", "buckets": {"1": 2, "+Inf": 1}, "sum": 7.5}
SIZES = {"name": "request_size_bytes", "value": 512}
SUCCESS = {"name": "batch_job_last_success_timestamp_seconds", "labels": {"job_name": "backup"}}
OPEN_FILES = {"name": "open_files", "type": "gauge", "op": "add", "value": -3}

LAP = WINDOW.step_seconds * (WINDOW.steps + 1)
"""After so long a sketch's cells count another step."""

Operation = Callable[[Registry], None]


def batch(second: float, *deliveries: tuple[str, str | None, Sequence[Any]]) -> Operation:
    """Fold what is delivered, source by source, and commit."""

    def operate(registry: Registry) -> None:
        for source, message_id, samples in deliveries:
            registry.deliver(message_id, *samples, source=source, now=NOW + second)
        registry.commit(NOW + second)

    return operate


def job(second: float, source: str) -> Operation:
    """Fold what a short-lived process says, and its farewell, and commit."""

    def operate(registry: Registry) -> None:
        at = NOW + second
        registry.deliver(f"{source}:1", SUCCESS | {"value": at}, source=source, now=at, final=True)
        registry.commit(at)

    return operate


def totals(second: float, tasks: float, waits: Observed) -> Operation:
    """Fold totals, known by a digest of their body as OTLP is, and commit."""

    def operate(registry: Registry) -> None:
        points = [
            Point("tasks", "tasks_total", "counter", tasks, at=NOW + second, is_total=True, start=NOW - 9),
            Point("waits", "waits", "histogram", waits, at=NOW + second, is_total=True),
        ]
        if registry.shard.ledger.admit("e", f"digest of {second}", NOW + second) is Verdict.NEW:
            envelope = Envelope("e", "e", None, [], [], parts=[Part("e", "e", {}, points)])
            registry.shard.fold.envelope(envelope, NOW + second)
        registry.commit(NOW + second)

    return operate


def expiry(second: float) -> Operation:
    """Take out the gauges of who was silent for long."""

    def operate(registry: Registry) -> None:
        registry.shard.expire(NOW + second - 60)
        registry.commit(NOW + second)

    return operate


OPERATIONS: list[Operation] = [
    batch(0, ("a", "a:1", [VOTES, AGENTS]), ("b", "b:1", [AGENTS, WAITS])),
    batch(1, ("a", "a:3", [VOTES, SIZES, SIZES]), ("a", "a:2", [VOTES, QUEUE]), ("c", "c-1", [OPEN_FILES, VOTES])),
    batch(
        2,
        ("b", "b:1", [AGENTS, WAITS]),
        ("c", "c-1", [OPEN_FILES, VOTES]),
        ("b", "b:2", [VOTES, AGENTS | {"value": 3}, SIZES]),
    ),
    job(3, "j-1"),
    batch(70, ("a", "a:4", [WAITS, VOTES | {"labels": {"type": "v" * 900}}]), ("d", "d:9", [QUEUE | {"value": 7}])),
    expiry(71),
    job(71.5, "j-2"),
    totals(72, 5, Observed(3, 6.5, {1.0: 2})),
    totals(73, 7, Observed(4, 7.5, {1.0: 3})),
    totals(74, 2, Observed(1, 0.5, {1.0: 1})),
    batch(LAP, ("a", "a:5", [SIZES, SIZES | {"value": -3}])),
    batch(LAP + 1, ("c", "c-2", [OPEN_FILES, *({"name": f"g{i}", "type": "gauge", "value": i} for i in range(3))])),
]


class Told(NamedTuple):
    """The state of a shard: to a scrape, and to its next owner."""

    text: bytes
    sketches: dict[bytes, tuple[float, float]]
    ledger: list[Any]
    shares: dict[str, Any]
    streams: dict[str, Any]
    celery: dict[str, Any]


def told(registry: Registry) -> Told:
    snapshot = orjson.loads(registry.shard._state.snapshot())
    ledger = [*snapshot["ledger"]["sources"].items(), snapshot["ledger"]["digests"]]
    shares = {column: sorted(shares) for column, shares in snapshot["shares"].items() if shares}
    return Told(
        Exposition(registry.directory).text(),
        sketches(registry),
        ledger,
        shares,
        snapshot["streams"],
        celery_of(snapshot),
    )


def celery_of(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The tasks by their digests, with their texts in place."""
    found = snapshot["celery"]
    tasks = {task: (found["texts"][name], found["texts"][queue], *rest) for task, name, queue, *rest in found["tasks"]}
    queues = {found["texts"][name]: found["texts"][queue] for name, queue in found["queues"]}
    return {"tasks": tasks, "queues": queues, "seen": found["seen"], "workers": found["workers"]}


def sketches(registry: Registry) -> dict[bytes, tuple[float, float]]:
    """The count and the step of each bin that ever counted."""
    file = registry.shard._files.values.get("sketch")
    entries = file.entries() if file else ()
    told = {key: (file.doubles[slot], file.doubles[slot + 1]) for key, slot in entries if file}
    return {key: (count, start) for key, (count, start) in told.items() if start}


@pytest.fixture(autouse=True, scope="module")
def _small_files() -> Iterator[None]:
    """So that a few batches bring checkpoints and grow value files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal, "CAPACITY_BYTES", 700)
        patch.setattr(values, "_INITIAL_BYTES", 1024)
        yield


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> list[State]:
    """Every state of the files from nothing to the last operation."""
    return whole_life(tmp_path_factory.mktemp("life"), fsync=False)


@pytest.fixture(scope="module")
def after() -> list[Told]:
    """Record the state of an owner that nobody kills, before the first operation and after each one."""
    with fresh_directory() as directory, Registry(directory) as registry:
        stages = [told(registry)]
        for operate in OPERATIONS:
            operate(registry)
            stages.append(told(registry))
    return stages


def whole_life(directory: Path, *, fsync: bool, operations: Sequence[Operation] = OPERATIONS) -> list[State]:

    def life(done: list[Any]) -> None:
        with Registry(directory, fsync=fsync) as registry:
            for operate in operations:
                operate(registry)
                done.append(operate)

    return states(directory, life)


def is_unapplied(state: State) -> bool:
    """Tell whether the owner was killed between the mark of a commit and its end."""
    header = state.files.get("shard0.journal", bytes(24))
    return header[8:16] != header[16:24]


def finish(directory: Path, done: int, operations: Sequence[Operation] = OPERATIONS) -> Told:
    """Open what was left, and do again what wasn't known to be done: it wasn't acknowledged."""
    with Registry(directory) as registry:
        for operate in operations[done:]:
            operate(registry)
        return told(registry)


def test_a_kill_at_any_line_loses_nothing_and_counts_nothing_twice(
    life: list[State], after: list[Told], tmp_path: Path
) -> None:
    assert {state.done for state in life} == {*range(len(OPERATIONS) + 1)}
    for state in life:
        before_or_after = after[state.done : state.done + 2]
        state.lay_out(tmp_path)
        scraped = Exposition(tmp_path)
        assert counted(scraped.text()) in [counted(stage.text) for stage in before_or_after], state.line
        assert not scraped.skipped, state.line
        with Registry(tmp_path) as registry:
            assert told(registry)[1:] in [stage[1:] for stage in before_or_after], state.line
        assert finish(tmp_path, state.done) == after[-1], state.line


def test_a_kill_at_any_line_of_a_recovery_is_recovered_from(
    life: list[State], after: list[Told], tmp_path_factory: pytest.TempPathFactory
) -> None:
    crashed, again = tmp_path_factory.mktemp("crashed"), tmp_path_factory.mktemp("again")
    torn = [state for state in life if is_unapplied(state)]
    for state in torn[:: len(torn) // 6]:
        before_or_after = after[state.done : state.done + 2]
        state.lay_out(crashed)
        for second in states(crashed, lambda _: Registry(crashed).__exit__()):
            second.lay_out(again)
            scraped = counted(Exposition(again).text())
            assert scraped in [counted(stage.text) for stage in before_or_after], (state.line, second.line)
            assert finish(again, state.done) == after[-1], (state.line, second.line)


def test_flushing_to_the_disk_goes_through_the_same_states(life: list[State], tmp_path: Path) -> None:
    assert [state.files for state in whole_life(tmp_path, fsync=True)] == [state.files for state in life]


def test_the_files_go_through_checkpoints_and_growth(life: list[State]) -> None:
    """Or the tests above would say less than they seem to."""
    assert len(life) > 100
    snapshots = {state.files["shard0.journal"][24:32] for state in life if "shard0.journal" in state.files}
    assert len(snapshots) >= 3
    sizes = {len(state.files["counter_shard0.db"]) for state in life if "counter_shard0.db" in state.files}
    assert len(sizes) > 1
