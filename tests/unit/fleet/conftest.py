import time
from types import SimpleNamespace

import pytest

from busmon.fleet.worker import intake, lane, open_batch, uncountable

from .settlements import NOW


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that a lane and its parts read, to be set."""
    said = SimpleNamespace(now=NOW)
    said.time = lambda: said.now
    said.perf_counter, said.monotonic = time.perf_counter, time.monotonic
    for module in (intake, lane, open_batch, uncountable):
        monkeypatch.setattr(module, "time", said)
    return said
