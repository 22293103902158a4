import pytest
from pika.exceptions import (
    AMQPHeartbeatTimeout,
    ChannelClosedByBroker,
    ConnectionBlockedTimeout,
    ConnectionClosedByBroker,
    ProbableAuthenticationError,
    StreamLostError,
)

from busmon.bus.connect.causes import LossCause, of_attempt, of_channel, of_connection
from busmon.bus.connect.connection import translate

QUEUE = "queue 'q' in vhost '/'"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (AMQPHeartbeatTimeout("no activity"), "heartbeat_timeout"),
        (ConnectionBlockedTimeout("expired"), "blocked_timeout"),
        (ConnectionClosedByBroker(320, "CONNECTION_FORCED - test"), "connection_closed"),
        (StreamLostError("EOF"), "connection_lost"),
    ],
)
def test_every_end_of_a_connection_has_a_name(error: Exception, name: str) -> None:
    assert of_connection(error).name == name


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "unreachable"),
        (ProbableAuthenticationError("ConnectionClosedByBroker: (403) 'ACCESS_REFUSED - no'"), "refused"),
    ],
)
def test_an_attempt_fails_for_want_of_a_broker_or_of_its_consent(error: Exception, name: str) -> None:
    assert of_attempt(translate(error)).name == name


@pytest.mark.parametrize(
    ("code", "text", "name"),
    [
        (404, "NOT_FOUND - no queue 'q' in vhost '/'", "queue_missing"),
        (404, f"NOT_FOUND - home node 'rabbit@a' of durable {QUEUE} is down or inaccessible", "queue_unavailable"),
        (404, f"NOT_FOUND - {QUEUE} process is stopped by supervisor", "queue_unavailable"),
        (404, f"NOT_FOUND - {QUEUE} has crashed and failed to restart", "queue_unavailable"),
        (404, f"NOT_FOUND - failed to perform operation on {QUEUE} due to timeout", "queue_unavailable"),
        (403, "ACCESS_REFUSED - access to queue 'q' refused", "access_refused"),
        (406, "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out", "consumer_timeout"),
        (406, "PRECONDITION_FAILED - unknown delivery tag 7", "channel_closed"),
        (541, "INTERNAL_ERROR", "channel_closed"),
    ],
)
def test_every_close_of_a_channel_has_a_name(code: int, text: str, name: str) -> None:
    cause = of_channel(ChannelClosedByBroker(code, text), missing=LossCause.QUEUE_MISSING)
    assert cause.name == name
    remedy = "; the fleet takes the consumer's permissions (docs/topology.md, 'Declaring and users')"
    assert str(cause) == f"{name}: {text}{remedy if code == 403 else ''}"


@pytest.mark.parametrize("adjective", ["unknown", "invalid"])
def test_a_plugin_that_is_off_comes_with_its_remedy(adjective: str) -> None:
    said = f"COMMAND_INVALID - {adjective} exchange type 'x-consistent-hash'"
    channel = of_channel(ChannelClosedByBroker(406, said), missing=LossCause.RING_INCOMPLETE)
    connection = of_connection(ConnectionClosedByBroker(503, said))
    command = "run `rabbitmq-plugins enable rabbitmq_consistent_hash_exchange` on RabbitMQ's host"
    assert str(channel) == f"channel_closed: {said}; {command}"
    assert str(connection) == f"connection_closed: {said}; {command}"
