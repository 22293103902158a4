"""Work that grows with the bytes of a body and no faster: evicting, redoing, taking out.

Counted are operations, not seconds: the steps of Python code, and for containers the entries that an iteration passes
over, deleted ones included.
"""

import ast
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import busmon
from busmon.registry.fold import ledger as ledgers
from busmon.registry.fold import streams as totals
from busmon.registry.fold.accounts import Account
from busmon.registry.fold.exemplars import Exemplars
from busmon.registry.fold.ledger import Ledger
from busmon.registry.fold.shares import MERGES, Shares
from busmon.registry.fold.streams import Streams
from busmon.wire.envelope import Point

from .registries import CATALOGUE, NOW

SMALL = 500
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
    return steps(work(2 * size)) / steps(work(size))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have memories so small that each new entry evicts one."""
    monkeypatch.setattr(ledgers, "MAX_SOURCES", 100)
    monkeypatch.setattr(ledgers, "RING_SIZE", 100)
    monkeypatch.setattr(totals, "MAX_STREAMS", 100)


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
            list(shares.merged())
            shares.commit()

        return leave

    assert growth(leaving, 100) < MOST


def test_memories_that_evict_their_oldest_are_ordered_dictionaries() -> None:
    """A plain dictionary passes over its deleted entries at each look for its first, which no count of steps shows."""
    exemplars = Exemplars()
    exemplars.take(CATALOGUE.families["votes_cast_total"], ("upvote",), 1, "t", NOW)
    for memory in (Account(NOW, NOW).sources, Ledger().ring, vars(Streams())["_known"], vars(exemplars)["_kept"]):
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
