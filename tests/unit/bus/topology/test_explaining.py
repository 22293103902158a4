"""Errors of a declaration: an INTERNAL_ERROR is worth another attempt, a refusal isn't."""

import pytest
from pika.exceptions import ConnectionClosedByBroker

from busmon.bus.connect.connection import translate
from busmon.bus.topology import explaining
from busmon.bus.topology.explaining import explain, until_settled
from busmon.bus.topology.topology import load
from busmon.errors import BrokerRefusedError, BrokerUnreachableError, BrokerUnsettledError, BusmonError, TopologyError

# RabbitMQ 4.3, while the metadata store has no leader.
NO_LEADER = "INTERNAL_ERROR - Could not declare queue 'telemetry.fold.0' in vhost '/' because the operation timed out"


class Declaration:
    """A declaration that fails with the given errors in turn, and then succeeds."""

    def __init__(self, *errors: BusmonError) -> None:
        self.errors = list(errors)
        self.attempts = 0

    def __call__(self) -> str:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        return "declared"


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "_RETRY_SECONDS", 0.0)


def test_declares_again_while_the_broker_elects_a_leader_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    declaration = Declaration(BrokerUnsettledError(NO_LEADER), BrokerUnsettledError(NO_LEADER))
    assert until_settled(declaration) == "declared"
    assert declaration.attempts == 3
    assert caplog.messages == [f"the broker can't declare yet, trying again for 60 s: {NO_LEADER}"]


@pytest.mark.parametrize("error", [BrokerUnreachableError("gone"), BrokerRefusedError("no"), TopologyError("differs")])
def test_repeats_no_other_error(error: BusmonError) -> None:
    declaration = Declaration(error)
    with pytest.raises(type(error)):
        until_settled(declaration)
    assert declaration.attempts == 1


def test_gives_up_with_the_brokers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explaining, "SETTLING_SECONDS", 0.0)
    with pytest.raises(BrokerUnsettledError, match="operation timed out"):
        until_settled(Declaration(BrokerUnsettledError(NO_LEADER)))


@pytest.mark.parametrize("adjective", ["unknown", "invalid"])
@pytest.mark.parametrize("code", [503, 406])
def test_a_plugin_that_is_off_is_named_with_both_ways_out(adjective: str, code: int) -> None:
    text = f"COMMAND_INVALID - {adjective} exchange type 'x-consistent-hash'"
    line = str(explain(load(None, "telemetry"), "exchange 'telemetry.shards'", code, text))
    assert "run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange`" in line
    assert "or set shards = 1" in line


def test_recognizes_the_code_in_a_request_and_in_a_lost_connection() -> None:
    assert type(explain(load(None, "telemetry"), "queue 'q'", 541, NO_LEADER)) is BrokerUnsettledError
    assert type(translate(ConnectionClosedByBroker(541, NO_LEADER))) is BrokerUnsettledError
    for found in (
        explain(load(None, "telemetry"), "queue 'q'", 320, "CONNECTION_FORCED - broker forced connection closure"),
        translate(ConnectionClosedByBroker(320, "CONNECTION_FORCED")),
    ):
        assert type(found) is BrokerUnreachableError
