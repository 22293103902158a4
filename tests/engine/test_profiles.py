"""The profiles `cold` and `ha`: two replicas, one store of 90 days that either of them fills."""

import json
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.engine.engine import Engine, Stack
from tests.engine.test_stack import WAIT, ask, until

STORE = "http://victoriametrics:8428/api/v1"


@pytest.fixture(scope="module")
def both(engine: Engine) -> Iterator[Stack]:
    stack = Stack(engine, PROMETHEUS_CONFIG="cold", PROMETHEUS_TARGETS="targets-ha")
    stack.compose("build", "busmon")
    stack.compose("--profile", "demo", "--profile", "cold", "--profile", "ha", "up", *WAIT)
    yield stack
    stack.compose("--profile", "*", "down", "--volumes", "--timeout", "60")


def _is_written_since(stack: Stack, moment: float) -> bool:
    return newest(stack) > moment


def newest(stack: Stack) -> float:
    """Return when the store's newest sample of the fleet was taken, in seconds since the epoch."""
    rows = ask(stack, 'timestamp(up{job="busmon"})', STORE)
    return max((float(row["value"][1]) for row in rows), default=0.0)


def test_two_replicas_find_each_other_and_their_alertmanagers(both: Stack) -> None:
    until(lambda: len(ask(both, 'up{job="prometheus"} == 1')) == 2, "both replicas to be scraped")
    peers = until(lambda: _peers(both), "the Alertmanagers to find each other")
    assert len(peers) == 2


def _peers(stack: Stack) -> list[str]:
    status = json.loads(stack.get("http://alertmanager:9093/api/v2/status"))
    peers = [peer["address"] for peer in status["cluster"].get("peers", [])]
    return peers if len(peers) == 2 else []


def test_the_store_goes_on_when_either_replica_stops(both: Stack) -> None:
    until(lambda: newest(both), "the store's first samples")
    for stopped in ("prometheus", "prometheus-b"):
        both.compose("--profile", "*", "stop", "--timeout", "60", stopped)
        until(partial(_is_written_since, both, time.time()), f"samples of the other replica than {stopped}")
        both.compose("--profile", "*", "start", stopped)


def test_the_store_stops_after_those_that_write_to_it(both: Stack) -> None:
    both.compose("--profile", "*", "stop", "--timeout", "60")
    states = {name: each["State"] for name, each in both.containers().items()}
    assert {name: state["ExitCode"] for name, state in states.items() if state["ExitCode"] == 137} == {}
    writers = max(states[name]["FinishedAt"] for name in ("prometheus", "prometheus-b"))
    assert states["victoriametrics"]["FinishedAt"] > writers
