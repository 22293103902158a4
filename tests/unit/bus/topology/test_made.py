"""The note of an object that a declaration makes: kept where the outcome is open, taken back where it was refused."""

import pytest

from busmon.bus.topology.made import Made, noting
from busmon.bus.topology.topology import Queue
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BrokerUnsettledError, BusmonError, TopologyError

FOLD, QUARANTINE = (Queue(name, {}) for name in ("telemetry.fold.0", "telemetry.quarantine"))


def attempt(made: Made, outcome: BusmonError) -> None:
    """Note the quarantine for a request with this outcome."""

    def request() -> None:
        assert made == [FOLD, QUARANTINE]
        raise outcome

    with pytest.raises(type(outcome)), noting(made, QUARANTINE):
        request()


@pytest.mark.parametrize("kind", [BrokerUnsettledError, BrokerUnreachableError])
def test_an_open_outcome_keeps_the_note_once(kind: type[BusmonError]) -> None:
    made: Made = [FOLD]
    for _ in range(2):
        attempt(made, kind("queue 'telemetry.quarantine'"))
    with noting(made, QUARANTINE):
        pass
    assert made == [FOLD, QUARANTINE]


@pytest.mark.parametrize("kind", [BrokerRefusedError, TopologyError])
def test_a_refusal_takes_the_note_back_even_after_an_open_outcome(kind: type[BusmonError]) -> None:
    made: Made = [FOLD]
    attempt(made, BrokerUnsettledError("queue 'telemetry.quarantine'"))
    attempt(made, kind("queue 'telemetry.quarantine'"))
    assert made == [FOLD]
