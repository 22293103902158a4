import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from busmon.fleet.worker import housekeeping as upkeeps
from busmon.fleet.worker.housekeeping import Upkeep
from busmon.fleet.worker.pace import Pace
from busmon.registry.operator import removal
from tests.unit.fleet.later import Later
from tests.unit.fleet.settlements import Worker


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    with Worker(tmp_path) as worker:
        yield worker


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A monotonic clock that a removal of three seconds moves."""
    moment, real = SimpleNamespace(now=1000.0, removals=0), removal.tidy

    def tidy(*arguments: object) -> int:
        moment.now += 3
        moment.removals += 1
        real(*arguments)  # type: ignore[arg-type]  # as it was called
        return 1

    monkeypatch.setattr(removal, "is_due", lambda _: True)
    monkeypatch.setattr(removal, "tidy", tidy)
    monkeypatch.setattr(upkeeps, "time", SimpleNamespace(monotonic=lambda: moment.now, time=time.time))
    return moment


def test_removals_that_crowds_of_names_ask_for_take_a_tenth_of_the_time(
    worker: Worker, moment: SimpleNamespace, tmp_path: Path
) -> None:
    upkeep = Upkeep(worker.registry.shard, worker.lane, Pace(worker.lane, Later(), 1.0))
    for _ in range(120):
        upkeep.beat(0.0, tmp_path)
        moment.now += 1
    assert moment.removals == 4
