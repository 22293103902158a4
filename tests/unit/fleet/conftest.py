import time
from types import SimpleNamespace

import pytest

from busmon.fleet import lane as lanes

from .settlements import NOW


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that the lane reads, to be set."""
    said = SimpleNamespace(now=NOW)
    said.time = lambda: said.now
    said.perf_counter, said.monotonic = time.perf_counter, time.monotonic
    monkeypatch.setattr(lanes, "time", said)
    return said
