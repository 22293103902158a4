"""Work that grows with the bytes of a body and no faster: evicting, redoing, taking out.

Counted are operations, not seconds: the steps of Python code, and for containers the entries that an iteration passes
over, deleted ones included.
"""

import ast
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import orjson
import pytest
from pika import BasicProperties
from pika.spec import Basic

import busmon
from busmon.bus.frames.delivery import Delivery
from busmon.errors import EnvelopeError
from busmon.registry.admission import sweep
from busmon.registry.admission.budgets import UNBOUNDED
from busmon.registry.admission.places import Places
from busmon.registry.celery import tasks as celery_tasks
from busmon.registry.celery.events import Celery
from busmon.registry.fold import streams as totals
from busmon.registry.fold.exemplars import Exemplars
from busmon.registry.fold.streams import Streams
from busmon.registry.ledger import ledger as ledgers
from busmon.registry.ledger.accounts import Account
from busmon.registry.ledger.ledger import Ledger
from busmon.registry.series.shares import MERGES, Shares
from busmon.settings.kinds import FormatRule
from busmon.wire.celery_event import TaskEvent, WorkerEvent
from busmon.wire.envelope import Envelope, Point
from busmon.wire.formats import Formats

from .registries import CATALOGUE, NOW, Registry, envelope, fresh_directory

SMALL = 300
LEVEL = {"name": "queue_size", "labels": {"queue": "q"}, "value": 1}
MOST = 2.4
"""Twice the work takes twice the steps; squares would take four times."""


def steps(work: Callable[[], object]) -> int:
    """How many lines of Python and calls of C functions `work` takes."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    def profile(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return count


def growth(work: Callable[[int], Callable[[], object]], size: int = SMALL) -> float:
    """How many times as many steps twice the size takes."""
    work(1)()  # what is imported by the first is no work of the second
    return steps(work(2 * size)) / steps(work(size))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have memories so small that each new entry evicts one."""
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 100)
    monkeypatch.setattr(ledgers, "RING_SIZE", 100)
    monkeypatch.setattr(totals, "MAX_STREAMS", 100)
    for name in ("MAX_TASKS", "MAX_ENDED", "RING_SIZE", "MAX_NAMES"):
        monkeypatch.setattr(celery_tasks, name, 100)


@pytest.mark.usefixtures("few")
def test_sources_and_ids_are_evicted_in_steps_of_their_number() -> None:
    def evicting(size: int) -> Callable[[], object]:
        ledger = Ledger()
        for number in range(size):
            ledger.admit(f"s-{number}", "1", NOW)
        return ledger.commit

    assert growth(evicting) < MOST


@pytest.mark.usefixtures("few")
def test_streams_are_evicted_in_steps_of_their_number() -> None:
    def evicting(size: int) -> Callable[[], object]:
        streams = Streams()
        for number in range(size):
            point = Point("hits_total", "hits_total", "counter", 1.0, {"k": str(number)}, is_total=True)
            streams.advance(streams.total("s", point, NOW))
        return streams.commit

    assert growth(evicting) < MOST


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("host", ["h", "h-{}"], ids=["one host", "many hosts"])
def test_celerys_events_take_steps_of_their_number(host: str) -> None:
    def taking(size: int) -> Callable[[], object]:
        celery = Celery()

        def take() -> None:
            for number in range(size):
                node = f"w-{number}@{host.format(number)}"
                task = TaskEvent(number, "sent", node, NOW, number, name=f"n-{number}", queue=f"q-{number}")
                for event in (task, WorkerEvent(-number - 1, "heartbeat", node, NOW)):
                    list(celery.take(event, NOW))
            celery.dump(whole=False)
            celery.commit()
            celery.beat(NOW, NOW + 1)
            celery.commit()

        return take

    assert growth(taking) < MOST


@pytest.mark.parametrize("sizes", [(1, 1), (1, 50), (50, 1)], ids=["one cell", "many sources", "many cells"])
def test_leaving_sources_cost_what_they_hold(sizes: tuple[int, int]) -> None:
    """A source that stops looks at its own shares alone, however many others the batch has set."""
    cells, times = sizes

    def leaving(size: int) -> Callable[[], object]:
        shares = Shares(MERGES["gauge_sum"])
        for source in range(size):
            for cell in range(cells):
                shares.set(cell, f"s-{source}", 1, NOW)

        def leave() -> None:
            for _ in range(times):
                for source in range(size):
                    shares.drop((f"s-{source}",))
            list(shares.merge())
            shares.commit()

        return leave

    assert growth(leaving, 100) < MOST


def test_memories_that_evict_their_oldest_are_ordered_dictionaries(tmp_path: Path) -> None:
    """A plain dictionary passes over its deleted entries at each look for its first, which no count of steps shows."""
    exemplars = Exemplars()
    exemplars.take(CATALOGUE.families["votes_cast_total"], ("upvote",), 1, "t", NOW)
    lost = Places(tmp_path).lost
    for memory in (Account(NOW, NOW).sources, Ledger().ring, vars(Streams())["_known"], vars(exemplars)["_kept"], lost):
        assert type(memory) is OrderedDict


def test_no_loop_looks_for_the_first_entry_of_what_it_deletes_from() -> None:
    found = [
        f"{path.name}:{loop.lineno}"
        for path in Path(busmon.__file__).parent.rglob("*.py")
        for loop in ast.walk(ast.parse(path.read_text()))
        if isinstance(loop, ast.While | ast.For)
        if any(ast.unparse(node).startswith("next(iter(") for node in ast.walk(loop) if isinstance(node, ast.Call))
        and any(isinstance(node, ast.Delete) or ast.unparse(node).endswith(".pop") for node in ast.walk(loop))
    ]
    assert found == []


def rows(size: int) -> list[dict[str, Any]]:
    return [{"name": "hits_total", "type": "counter", "labels": ["k"], "rows": [[str(n), 1] for n in range(size)]}]


def levels(size: int) -> list[dict[str, Any]]:
    return [{"name": "level", "type": "gauge", "labels": ["k"], "rows": [[str(n), 1] for n in range(size)]}]


@pytest.mark.parametrize("table", [rows, levels], ids=["counters", "gauges"])
@pytest.mark.parametrize("budget", [1 << 30, 10], ids=["admitted", "over their budget"])
def test_admitting_folding_and_committing_series_takes_steps_of_their_number(
    table: Callable[[int], list[dict[str, Any]]], budget: int
) -> None:
    def counting(size: int) -> Callable[[], object]:
        said = envelope(tables=table(size))

        def count() -> None:
            budgets = replace(UNBOUNDED, label_values=budget)
            with fresh_directory() as directory, Registry(directory, budgets=budgets) as registry:
                registry.shard.fold.envelope(said, NOW)
                registry.commit()

        return count

    assert growth(counting, 60) < MOST


@pytest.mark.parametrize("amount", ["records", "sources", "snapshot"])
def test_a_journal_is_redone_in_steps_of_its_size(amount: str, tmp_path: Path) -> None:
    def left_by_a_dead_owner(size: int) -> Callable[[], object]:
        directory = tmp_path / str(size)
        directory.mkdir()
        with Registry(directory) as registry:
            for number in range(size):
                registry.deliver(f"s-{number}:1", LEVEL, source=f"s-{number}")
                if amount == "records":
                    registry.commit()
            registry.commit()
            if amount == "snapshot":
                registry.shard._state.checkpoint(NOW)

        def redo() -> None:
            Registry(directory).shard.close()

        return redo

    assert growth(left_by_a_dead_owner, 60) < MOST


def test_a_snapshot_is_made_in_steps_of_what_it_holds(tmp_path: Path) -> None:
    def holding(size: int) -> Callable[[], object]:
        directory = tmp_path / str(size)
        directory.mkdir()
        registry = Registry(directory)
        for number in range(size):
            registry.deliver(f"s-{number}:1", LEVEL, source=f"s-{number}")
        registry.commit()

        def make() -> None:
            registry.shard._state.checkpoint(NOW)
            registry.shard.close()

        return make

    assert growth(holding, 100) < MOST


def resources(size: int) -> bytes:
    """OTLP metrics of as many resources, each a source of its own."""
    request = {
        "resourceMetrics": [
            {
                "resource": {"attributes": [{"key": "service.instance.id", "value": {"stringValue": f"i-{number}"}}]},
                "scopeMetrics": [{"metrics": [{"name": "level", "gauge": {"dataPoints": [{"asDouble": 1}]}}]}],
            }
            for number in range(size)
        ]
    }
    return orjson.dumps(request)


BODIES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "statsd": ("statsd", lambda size: b"\n".join(b"hits:%d|c|#k:%d" % (n, n) for n in range(size))),
    "influx": ("influx", lambda size: b"\n".join(b"cpu,host=h%d usage=%d" % (n, n) for n in range(size))),
    "prometheus": (
        "prometheus",
        lambda size: b"\n".join(b'hits_total{k="%d"} %d' % (n, n) for n in range(size)) + b"\n",
    ),
    "otlp": ("otlp", resources),
    "json": ("json", lambda size: orjson.dumps({"v": 1, "source": "s", "samples": [LEVEL] * size})),
    "long line": ("statsd", lambda size: b"x" * (size * 40)),
    "long json": ("json", lambda size: b"[" * size),
}


@pytest.mark.parametrize(("format_", "made"), BODIES.values(), ids=BODIES)
def test_a_body_is_decoded_and_folded_in_steps_of_its_bytes(format_: str, made: Callable[[int], bytes]) -> None:
    def decoding(size: int) -> Callable[[], object]:
        content = made(size)
        formats = Formats([FormatRule("*", format_)] if format_ != "json" else [], "queue", 1 << 24)
        method = Basic.Deliver("busmon", 1, False, "telemetry", "agent.task")  # noqa: FBT003
        delivery = Delivery.from_pika(method, BasicProperties(), content)

        def decode() -> None:
            with suppress(EnvelopeError), fresh_directory() as directory, Registry(directory) as registry:
                registry.shard.fold.envelope(formats.decode(delivery), NOW)
                registry.commit()

        return decode

    assert growth(decoding, 100) < MOST


@pytest.mark.parametrize("agents", [1, 200])
def test_new_values_of_a_full_label_cost_the_same_however_many_places_it_has(
    agents: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "MAX_LOOKS", 5)

    def published(count: int, agent: str) -> Envelope:
        rows = [["telemetry", f"{agent}-{number}", 1] for number in range(count)]
        table = {"name": "messages_published_total", "labels": ["exchange", "routing_key"], "rows": rows}
        return envelope(tables=[table], source=agent, agent=agent)

    def taken(places: int) -> int:
        directory = tmp_path / str(places)
        directory.mkdir()
        budgets = replace(UNBOUNDED, label_values=places, forget_seconds=86_400.0)
        with Registry(directory, budgets=budgets) as registry:
            registry.shard.fold.envelope(published(places, "first"), NOW)
            registry.commit()
            new = [published(1000 // agents, f"next-{number}") for number in range(agents)]
            fold = registry.shard.fold.envelope
            return steps(lambda: [fold(each, NOW + 1) for each in new])

    taken(1)  # what is imported by the first is no work of the second
    assert taken(600) / taken(300) < 1.5
