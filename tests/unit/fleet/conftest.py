import time
from types import SimpleNamespace

import pytest

from busmon.bus.frames import delivery
from busmon.fleet.worker import gathered, lane, open_batch, uncountable

from .settlements import NOW


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a lane fold deliveries when they arrive, as it does where they are many or large."""
    monkeypatch.setattr(lane, "MAX_RUN_BYTES", 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that a lane and its parts read, to be set."""
    said = SimpleNamespace(now=NOW)
    said.time = lambda: said.now
    said.perf_counter, said.monotonic = time.perf_counter, time.monotonic
    for module in (delivery, gathered, lane, open_batch, uncountable):
        monkeypatch.setattr(module, "time", said)
    return said
